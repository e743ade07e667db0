\echo Use "create extension pg_salesai" to load this file. \quit

-- Cluster roles are shared by all databases: created when absent, never dropped.
do $do$
declare
    role_name text;
begin
    foreach role_name in array array[
        'salesai_admin', 'salesai_manager', 'salesai_rep',
        'salesai_analyst', 'salesai_gateway', 'salesai_worker']
    loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute pg_catalog.format('create role %I nologin', role_name);
        end if;
    end loop;
end
$do$;

comment on schema salesai is 'AI sales enablement: ingestion, search and cited insights over sales interactions';
