-- pg_dump skips the rows of an extension's tables unless they are registered. Identity sequences are
-- registered as well, so that keys go on where they were. Rows that this script itself inserts are left out, and
-- the counts of jobs and the lexical index but for its boosts, which a restore makes anew, and results that can be made again.

do $do$
declare
    item record;
begin
    for item in
        select c.oid::regclass as name, c.relkind = 'r' and c.relname ~ '^(lexical|posting|result)_' as is_derived
        from pg_catalog.pg_class c
        where c.relnamespace = 'salesai'::regnamespace and c.relkind in ('r', 'S')
          -- Vectors of an extension that was dropped may still be there.
          and exists (
              select from pg_catalog.pg_depend d
              where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
        order by c.oid
    loop
        perform pg_catalog.pg_extension_config_dump(
            item.name,
            case item.name when 'salesai.principal'::regclass then 'where not builtin'
                when 'salesai.job_count'::regclass then 'where false'
                when 'salesai.lexical_index'::regclass then 'where heading_boost <> 1 or speaker_boost <> 1'
                else case when item.is_derived then 'where false' else '' end end);
    end loop;
end
$do$;
