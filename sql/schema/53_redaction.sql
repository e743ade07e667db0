-- Redaction: which kinds of personal data are taken out of what search and models read, by source, and which a
-- role does not see in originals either. The rules are in domain/src/redaction/.

create function salesai.pii_kinds() returns text[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'pii_kinds_wrapper';
comment on function salesai.pii_kinds() is 'Kinds of personal data that the rules tell apart';

create table salesai.redaction_policy (
    id bigint generated always as identity primary key,
    source text,
    role_name text,
    kinds text[] not null,
    unique nulls not distinct (source, role_name),
    check (source is null or role_name is null),
    check (kinds <@ salesai.pii_kinds())
);
comment on table salesai.redaction_policy is
    'With a source: the kinds taken out of what arrives from it; with neither: of all other sources; without such a row, all kinds but names, since who said what is what a sales team asks for. With a role: the kinds that it and its members do not see in originals either. salesai.apply_redaction() brings what is stored in line with a change';

create function salesai.redacted_kinds(source text) returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select p.kinds from salesai.redaction_policy p
                     where p.role_name is null and (p.source = $1 or p.source is null)
                     order by p.source nulls last limit 1),
                    array_remove(salesai.pii_kinds(), 'name'))
$$;
comment on function salesai.redacted_kinds(text) is 'Kinds of personal data taken out of what arrives from this source';

create function salesai.hidden_kinds() returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct kind), '{}')
    from salesai.redaction_policy p, unnest(p.kinds) kind
    where p.role_name = salesai.current_role_name()
       -- A superuser counts as a member of every role.
       or exists (select from pg_roles r, pg_roles me
                  where r.rolname = p.role_name and me.rolname = salesai.current_role_name() and not me.rolsuper
                    and pg_has_role(me.oid, r.oid, 'member'))
$$;
comment on function salesai.hidden_kinds() is 'Kinds of personal data that the session''s role does not see in originals';

create function salesai.known_names(account_id bigint, interaction_id bigint) returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct name), '{}') from (
        -- One that was deleted before it came has no name but its id.
        select r.name from salesai.rep r where r.deleted_at is null or r.name <> r.external_id
        union all
        select c.name from salesai.contact c where c.account_id = $1 and (c.deleted_at is null or c.name <> c.external_id)
        union all
        select n.name
        from salesai.participant p
        left join salesai.contact c on c.id = p.contact_id and (c.deleted_at is null or c.name <> c.external_id)
        cross join lateral (values (p.name), (c.name)) n (name)
        where p.interaction_id = $2 and n.name is not null) known (name)
$$;
comment on function salesai.known_names(bigint, bigint) is
    'Names of reps, of the account''s contacts and of who took part, as the source and the CRM have them: what the kind "name" means there';

create function salesai.redact_text(content text, kinds text[], names text[]) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'redact_text_wrapper';
comment on function salesai.redact_text(text, text[], text[]) is 'The text with personal data of these kinds replaced by [kind]';

create function salesai.speakers(interaction_id bigint) returns table (participant_id bigint, label text)
language sql stable rows 5
set search_path = pg_catalog, pg_temp
as $$
    select named.id,
        -- Two whose names are hidden stay two.
        case when named.label ~ '^\[\w+\]$' then rtrim(named.label, ']') || ' ' || row_number() over (order by named.id) || ']'
             else named.label end
    from (
        select p.id, case
            when 'name' = any (i.redacted_kinds)
                then salesai.redact_text(who.name, i.redacted_kinds, salesai.known_names(i.account_id, i.id))
            -- The rules take some megabytes, and a name of letters alone has nothing for them.
            when who.name ~ '[@0-9]' then salesai.redact_text(who.name, coalesce(i.redacted_kinds, '{}'), '{}')
            else who.name end as label
        from salesai.interaction i
        join salesai.participant p on p.interaction_id = i.id
        left join salesai.rep r on r.id = p.rep_id
        left join salesai.contact c on c.id = p.contact_id
        cross join lateral (select case when p.name like '%@%' then coalesce(r.name, c.name, p.name) else p.name end as name) who
        where i.id = $1) named
$$;
comment on function salesai.speakers(bigint) is
    'What search and models call those who took part: their names, redacted as what they say, [name 1] and so on; for a bare address the name that the CRM has';

create function salesai.redact(content text, kinds text[] default null, names text[] default '{}') returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select salesai.redact_text(content, coalesce(kinds, salesai.redacted_kinds(null)), names) $$;
comment on function salesai.redact(text, text[], text[]) is
    'The text with personal data replaced by [kind]; kinds: default those that salesai.redaction_policy has for sources without a row of their own; names: what the kind "name" looks for';

create function salesai.redact_segments(
    segments jsonb, kinds text[], names text[], wrapped_key bytea, interaction_id bigint, version integer)
returns table ("position" integer, content text, redactions integer[], sealed bytea)
language c volatile strict parallel safe cost 100000 as 'MODULE_PATHNAME', 'redact_segments_wrapper';
comment on function salesai.redact_segments(jsonb, text[], text[], bytea, bigint, integer) is
    'What is stored of segments ([{content}], positions from 0): redacted, with the places and the sealed original where that changed something';

create function salesai.unseal_segment(
    sealed bytea, wrapped_key bytea, interaction_id bigint, version integer, "position" integer) returns text
language c stable strict parallel restricted as 'MODULE_PATHNAME', 'unseal_segment_wrapper';
comment on function salesai.unseal_segment(bytea, bytea, bigint, integer, integer) is 'Opens a sealed segment, without what a policy hides from the caller''s role';

create function salesai.seal_text(content text, wrapped_key bytea, interaction_id bigint, version integer) returns bytea
language c volatile strict parallel safe as 'MODULE_PATHNAME', 'seal_text_wrapper';
comment on function salesai.seal_text(text, bytea, bigint, integer) is 'Deflates and encrypts the text of a document';

create function salesai.unseal_text(sealed bytea, wrapped_key bytea, interaction_id bigint, version integer) returns text
language c stable strict parallel restricted as 'MODULE_PATHNAME', 'unseal_text_wrapper';
comment on function salesai.unseal_text(bytea, bytea, bigint, integer) is 'Opens the sealed text of a document, without what a policy hides from the caller''s role';

create function salesai.original_segment(segment_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        salesai.unseal_segment(s.sealed, d.wrapped_key, s.interaction_id, s.version, s.position),
        salesai.redact_text(s.content, salesai.hidden_kinds(), salesai.known_names(i.account_id, i.id)))
    from salesai.segment s
    join salesai.interaction i on i.id = s.interaction_id
    left join salesai.data_key d on d.interaction_id = i.id
    where s.id = $1
$$;
comment on function salesai.original_segment(bigint) is
    'What was said in a segment, without the kinds that a policy hides from the caller''s role; NULL when the caller may not see it, 42501 for roles that may not see originals';

create function salesai.apply_redaction(source text default null, max_interactions integer default 1000) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
    done bigint := 0;
begin
    if salesai.hidden_kinds() <> '{}' then
        raise exception 'permission denied for whole originals' using errcode = '42501',
            detail = 'A row of salesai.redaction_policy hides something from this role.', hint = 'Call it as another administrator.';
    end if;
    for item in
        select i.id, i.version, i.account_id, salesai.redacted_kinds(i.source) as kinds, d.wrapped_key
        from salesai.interaction i
        left join salesai.data_key d on d.interaction_id = i.id
        where ($1 is null or i.source = $1) and i.redacted_kinds is distinct from salesai.redacted_kinds(i.source)
        order by i.id
        limit max_interactions
        for update of i
    loop
        names := salesai.known_names(item.account_id, item.id);
        -- Without a key what was said is gone, and what is stored is all there is.
        if item.wrapped_key is null then
            update salesai.segment s
            set content = salesai.redact_text(s.content, item.kinds, names), redactions = null, sealed = null
            where s.interaction_id = item.id;
        else
            update salesai.segment s
            set content = r.content, redactions = r.redactions, sealed = r.sealed
            from (select o.version, jsonb_agg(jsonb_build_object('content', coalesce(
                              salesai.unseal_segment(o.sealed, item.wrapped_key, o.interaction_id, o.version, o.position), o.content))
                          order by o.position) as segments
                  from salesai.segment o where o.interaction_id = item.id group by o.version) stored,
                lateral salesai.redact_segments(stored.segments, item.kinds, names, item.wrapped_key, item.id, stored.version) r
            where s.interaction_id = item.id and s.version = stored.version and s.position = r.position;
        end if;
        update salesai.interaction i
        set redacted_kinds = item.kinds, subject = salesai.redact_text(i.subject, item.kinds, names), state = 'pending', updated_at = now()
        where i.id = item.id;
        perform salesai.enqueue(item.id, item.version);
        done := done + 1;
    end loop;
    return done;
end
$$;
comment on function salesai.apply_redaction(text, integer) is
    'Redacts what is stored as the policies are now, of one source or all, at most so many interactions, and queues them for indexing, after which search has the new texts; returns how many. Call it until it returns 0. A subject that was redacted stays so';
