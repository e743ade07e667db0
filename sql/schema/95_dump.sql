-- pg_dump skips the rows of an extension's tables unless they are registered. Identity sequences are
-- registered as well, so that keys go on where they were. Rows that this script itself inserts are left out.

do $do$
declare
    item record;
begin
    for item in
        select c.oid::regclass as name
        from pg_catalog.pg_class c
        where c.relnamespace = 'salesai'::regnamespace and c.relkind in ('r', 'S')
        order by c.oid
    loop
        perform pg_catalog.pg_extension_config_dump(
            item.name, case when item.name = 'salesai.principal'::regclass then 'where not builtin' else '' end);
    end loop;
end
$do$;
