-- Who asks. Row-level security, search and insight all depend on it.

create function salesai.current_role_name() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Not current_user: that is the owner inside a security-definer function.
    select case when current_setting('role') = 'none' then session_user::text else current_setting('role') end
$$;
comment on function salesai.current_role_name() is 'Role that the session acts as (SET ROLE, or the login role)';

create type salesai.principal_identity as (
    role_name text,
    rep_id bigint,
    team_ids bigint[],
    read_scope text,
    can_write boolean
);

create function salesai.current_principal() returns salesai.principal_identity
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
    select row(
        me.name,
        p.rep_id,
        array(select m.team_id from salesai.team_member m where m.rep_id = p.rep_id),
        coalesce(p.read_scope, 'own'),
        coalesce(p.can_write, false))::salesai.principal_identity
    from (select salesai.current_role_name() as name offset 0) me
    left join lateral (
        select *
        from salesai.principal p
        where p.role_name = me.name
           or exists (select from pg_roles r
                      where r.rolname = p.role_name
                        and pg_has_role(me.name, r.oid, 'member'))
        order by p.role_name = me.name desc,
                 array_position(array['all', 'team', 'own'], p.read_scope),
                 p.can_write desc
        limit 1
    ) p on true
$$;
comment on function salesai.current_principal() is
    'Rep, teams and rights of the session''s role, from salesai.principal; a role without any row sees and writes nothing';

-- The parts that policies use; each is evaluated once per query. Their search_path is fixed, because a policy
-- runs with the caller's, where "=" could be an operator of his own.
create function salesai.reads_all() returns boolean
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).read_scope = 'all' from salesai.current_principal() p $$;
comment on function salesai.reads_all() is 'True when the session''s principal may read every account';

create function salesai.reader_rep_id() returns bigint
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).rep_id from salesai.current_principal() p $$;
comment on function salesai.reader_rep_id() is 'Rep of the session''s principal, or NULL';

create function salesai.reader_team_ids() returns bigint[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select case (p).read_scope when 'team' then (p).team_ids else '{}' end from salesai.current_principal() p $$;
comment on function salesai.reader_team_ids() is 'Teams whose accounts the session''s principal may read';

create function salesai.writes() returns boolean
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).can_write from salesai.current_principal() p $$;
comment on function salesai.writes() is 'True when the session''s principal may add and change data that it can read';

create function salesai.reads_nothing() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select row_security_active('salesai.interaction') and not salesai.reads_all() and not exists (select from salesai.interaction)
$$;
comment on function salesai.reads_nothing() is
    'True when row-level security shows the session''s role no interaction at all, be it that there is none';

insert into salesai.principal (role_name, read_scope, can_write, builtin) values
    ('salesai_admin', 'all', true, true),
    ('salesai_manager', 'team', true, true),
    ('salesai_rep', 'own', true, true),
    ('salesai_analyst', 'all', false, true),
    ('salesai_gateway', 'all', true, true),
    ('salesai_worker', 'all', true, true);

-- Objects can be named by id, external id, name or (accounts) domain.
create function salesai.resolve_account(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(a.id) into ids
    from salesai.account a
    where a.deleted_at is null and (a.id::text = reference or a.external_id = reference
        or a.name_key = lower(reference) or lower(a.domain) = lower(reference));
    return salesai.only_match('account', reference, ids);
end
$$;
comment on function salesai.resolve_account(text) is 'Id of the account with this id, external id, name or domain; P0002 when there is none';

create function salesai.resolve_opportunity(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(o.id) into ids
    from salesai.opportunity o
    where o.deleted_at is null
      and (o.id::text = reference or o.external_id = reference or o.name_key = lower(reference));
    return salesai.only_match('opportunity', reference, ids);
end
$$;
comment on function salesai.resolve_opportunity(text) is 'Id of the opportunity with this id, external id or name; P0002 when there is none';

create function salesai.only_match(kind text, reference text, ids bigint[]) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if ids is null then
        raise exception '% "%" does not exist', kind, reference using
            errcode = 'P0002',
            detail = 'It does not exist or is not visible to this role.',
            hint = format('Look it up in salesai.%s, or load it by salesai.ingest_crm.', kind);
    end if;
    if cardinality(ids) > 1 then
        raise exception '% "%" is ambiguous', kind, reference using
            errcode = '22023',
            detail = format('%s rows match.', cardinality(ids)),
            hint = 'Give its id.';
    end if;
    return ids[1];
end
$$;
comment on function salesai.only_match(text, text, bigint[]) is 'The one id in ids; a clear error when there is none or more than one';
