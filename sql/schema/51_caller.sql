-- On whose behalf the sidecar works.

-- Owner rights: the identity of the cluster is hidden from others, and so are principals of other roles.
create function salesai.caller() returns table (caller text, cache_salt bytea)
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
    select encode(sha256(convert_to('caller ' || who.role, 'UTF8')), 'hex'),
        sha256(convert_to('cache salt ' || who.role || ' ' || who.rights, 'UTF8'))
    from (
        select concat_ws(' ', c.system_identifier, d.oid, coalesce(r.oid::text, (p).role_name)) as role,
            jsonb_build_array((p).rep_id, (p).read_scope, (p).can_write,
                array(select t from unnest((p).team_ids) t order by t))::text as rights
        from salesai.current_principal() p
        cross join pg_control_system() c
        join pg_database d on d.datname = current_database()
        left join pg_roles r on r.rolname = (p).role_name) who
$$;
comment on function salesai.caller() is
    'The session''s role towards the sidecar, as digests. caller: cluster, database and role; roles share the model by tokens served. cache_salt: the same, and all that row-level security derives from the role (rep, scope, teams); only prompts with the same salt are ever reused, so roles share nothing, and a change of rights starts afresh';
