-- Derived columns: what an operator says of a column of somebody's own table, kept up to date. Triggers note which rows
-- changed, a worker asks a model about a few of them at a time and writes the values with the rights of the table's owner.
-- Leases, classes of failures and pauses are those of salesai.job.

create table salesai.column_task (
    id bigint generated always as identity primary key,
    relation regclass not null,
    -- Whose rights it has: the table's owner, as long as it is the owner.
    owner_name text not null,
    target_column text not null,
    source text not null,
    is_expression boolean not null,
    key_columns text[] not null,
    operator text not null,
    arguments jsonb not null,
    options jsonb not null,
    version integer not null default 1,
    wanted_version integer not null default 1,
    is_paused boolean not null default false,
    is_listing boolean not null default true,
    listed_key text[],
    not_before timestamptz not null default now(),
    error_code text,
    error_message text,
    error_hint text,
    created_at timestamptz not null default now(),
    unique (relation, target_column)
);
comment on table salesai.column_task is
    'Columns that salesai.column_task keeps up to date; who has the rights of the owner sees them, and roles that read and write everything. error_*: why nothing is done now';
comment on column salesai.column_task.source is 'A column, or an expression over the columns of a row';
comment on column salesai.column_task.version is 'The newest of salesai.column_task_version';
comment on column salesai.column_task.wanted_version is 'What an older version said is asked again';
comment on column salesai.column_task.listed_key is 'Rows up to this key are known, while is_listing';

create table salesai.column_task_version (
    task_id bigint not null references salesai.column_task on delete cascade,
    version integer not null,
    source text not null,
    operator text not null,
    arguments jsonb not null,
    options jsonb not null,
    model text,
    model_sha256 text,
    adapter_generation bigint,
    prompt_version integer,
    created_at timestamptz not null default now(),
    primary key (task_id, version)
);
comment on table salesai.column_task_version is
    'What made the values of a column: what was asked, by which weights, generation of the adapter and version of the prompt template it was answered; others are a version of their own';

create table salesai.column_value (
    id bigint generated always as identity primary key,
    task_id bigint not null references salesai.column_task on delete cascade,
    key text[] not null,
    state text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed')),
    version integer,
    value_version integer,
    source_sha256 text,
    attempts integer not null default 0,
    losses integer not null default 0,
    not_before timestamptz not null default now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    holder_pid integer,
    holder_started_at timestamptz,
    error_class text check (error_class in ('record_temporary', 'record_permanent', 'pipeline_temporary', 'pipeline_permanent')),
    error_code text,
    error_message text,
    error_hint text,
    changed_at timestamptz not null default now(),
    unique (task_id, key),
    check ((state = 'running') = (lease_token is not null))
);
create index column_value_waiting_index on salesai.column_value (task_id, not_before, id) where state = 'waiting';
create index column_value_settled_index on salesai.column_value (task_id, version) where state in ('done', 'failed');
create index column_value_running_index on salesai.column_value (lease_token) where state = 'running';
comment on table salesai.column_value is
    'The rows of a column task: what became of each, and nothing of what they say. error_*: the last failure, also of one that is tried again';
comment on column salesai.column_value.key is 'The primary key of the row, as text';
comment on column salesai.column_value.version is 'Version of the task that the state done or failed is of';
comment on column salesai.column_value.value_version is 'Version of the task that made the value which the column has; NULL for none';
comment on column salesai.column_value.source_sha256 is 'Digest of the text that the value was made of';

create function salesai.is_column_owner(owner_name text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce((select pg_has_role(r.oid, 'USAGE') from pg_roles r where r.rolname = owner_name), false) $$;
comment on function salesai.is_column_owner(text) is 'Whether the present user has the rights of this role';

-- Which rows there are.
create function salesai.relation_key(relation regclass)
returns table (place bigint, name text, type text, equal text, greater text)
language sql stable rows 1
set search_path = pg_catalog, pg_temp
as $$
    select k.place, a.attname, format_type(a.atttypid, a.atttypmod),
        max(o.name) filter (where o.strategy = 3), max(o.name) filter (where o.strategy = 5)
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    join pg_am m on m.oid = x.relam and m.amname = 'btree'
    cross join unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality k (number, class, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
    join pg_opclass c on c.oid = k.class
    -- By the index's own operators, whatever schema they are in.
    cross join lateral (
        select f.amopstrategy as strategy, format('operator(%I.%s)', n.nspname, p.oprname) as name
        from pg_amop f join pg_operator p on p.oid = f.amopopr join pg_namespace n on n.oid = p.oprnamespace
        where f.amopfamily = c.opcfamily and f.amoplefttype = c.opcintype and f.amoprighttype = c.opcintype) o
    where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts
    group by k.place, a.attname, a.atttypid, a.atttypmod
$$;
comment on function salesai.relation_key(regclass) is 'The columns of a table''s primary key, with the operators of its index; none where it has none that can be used';

create function salesai.relation_problem(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when c.oid is null then format('table %s does not exist any more', relation)
        when c.relkind = 'p' or c.relispartition then format('table %s is partitioned', relation)
        when c.relkind <> 'r' then format('%s is no table', relation)
        when c.relpersistence = 't' then format('table %s is temporary', relation)
        when exists (select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent)) then format('table %s inherits, or is inherited from', relation)
        when c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            or exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
            then format('table %s belongs to the system or to an extension', relation)
        when not exists (select from salesai.relation_key(relation)) then format('table %s has no primary key', relation)
        when (select count(distinct k.greater) from salesai.relation_key(relation) k) > 1
            then format('the primary key of table %s has types of different extensions', relation)
        -- At the end of a transaction they would run with the rights of a worker.
        when exists (select from pg_trigger g where g.tgrelid = c.oid and g.tginitdeferred and not g.tgisinternal)
            then format('table %s has deferred triggers', relation)
    end
    from (select) one left join pg_class c on c.oid = relation
$$;
comment on function salesai.relation_problem(regclass) is 'Why this cannot be the table of salesai.column_task; NULL when it can';

create function salesai.column_task_problem(task salesai.column_task) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(salesai.relation_problem((task).relation), (
        select case
            when pg_get_userbyid(c.relowner) <> (task).owner_name
                then format('table %s belongs to role "%s" now', (task).relation, pg_get_userbyid(c.relowner))
            when not has_schema_privilege(c.relowner, 'salesai', 'usage')
                or not has_function_privilege(c.relowner, 'salesai.write_column_values(bigint, uuid, jsonb, jsonb)', 'execute')
                then format('role "%s" may not use salesai', (task).owner_name)
            when array(select k.name from salesai.relation_key((task).relation) k order by k.place) <> (task).key_columns
                then format('table %s has another primary key than before', (task).relation)
            when a.attnum is null then format('column "%s" of table %s does not exist', (task).target_column, (task).relation)
            when a.attgenerated <> '' or a.attname = any ((task).key_columns) or a.attname = (task).source
                then format('column "%s" cannot be written', a.attname)
            when case (task).operator when 'is_true' then a.atttypid <> 'boolean'::regtype
                    when 'extract' then a.atttypid not in ('jsonb'::regtype, 'json'::regtype)
                    else y.typcategory not in ('S', 'E') end
                then format('column "%s" has type %s, which does not fit %s', a.attname, format_type(a.atttypid, a.atttypmod), (task).operator)
            when not has_table_privilege(c.relowner, c.oid, 'select') or not has_column_privilege(c.relowner, c.oid, a.attnum, 'update')
                then format('role "%s" may not read table %s, or not change its column "%s"', (task).owner_name, (task).relation, a.attname)
            when not (task).is_expression and not exists (
                    select from pg_attribute s where s.attrelid = c.oid and s.attname = (task).source and s.attnum > 0 and s.attgenerated <> 'v')
                then format('column "%s" of table %s does not exist, or is not stored', (task).source, (task).relation)
            when 4 <> (select count(*) from pg_trigger g
                       where g.tgrelid = c.oid and g.tgname ~ '^salesai_column_task_(insert|update|delete|truncate)$'
                         and g.tgfoid = 'salesai.note_changed_rows()'::regprocedure and g.tgenabled in ('O', 'A'))
                then format('a trigger of salesai on table %s is gone or disabled', (task).relation)
        end
        from pg_class c
        left join pg_attribute a on a.attrelid = c.oid and a.attname = (task).target_column and a.attnum > 0 and not a.attisdropped
        left join pg_type y on y.oid = a.atttypid
        where c.oid = (task).relation))
$$;
comment on function salesai.column_task_problem(salesai.column_task) is 'Why nothing can be done for a column task; NULL when it can';

create function salesai.watch_relation(relation regclass) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    event record;
begin
    for event in select * from (values
            ('insert', 'referencing new table as new_rows'),
            ('update', 'referencing old table as old_rows new table as new_rows'),
            ('delete', 'referencing old table as old_rows'),
            ('truncate', '')) e (name, tables) loop
        if not exists (select from pg_trigger g where g.tgrelid = relation and g.tgname = 'salesai_column_task_' || event.name) then
            execute format('create trigger salesai_column_task_%s after %1$s on %s %s for each statement execute function salesai.note_changed_rows()',
                event.name, relation, event.tables);
        end if;
    end loop;
end
$$;
comment on function salesai.watch_relation(regclass) is 'Makes the triggers of salesai on a table; used by salesai.column_task';

create function salesai.check_column_trigger(relation oid, trigger_name text, event text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- For each statement, after it: others have no transition tables.
    if not exists (
        select from pg_trigger g
        where g.tgrelid = relation and g.tgname = trigger_name
          and (event not in ('INSERT', 'UPDATE') or g.tgnewtable is not distinct from 'new_rows')
          and (event not in ('UPDATE', 'DELETE') or g.tgoldtable is not distinct from 'old_rows')) then
        raise exception 'trigger "%" is not one of salesai', trigger_name using errcode = '39P01',
            hint = 'salesai.column_task makes the triggers that it needs.';
    end if;
end
$$;
comment on function salesai.check_column_trigger(oid, text, text) is 'Fails for a trigger that does not give salesai.note_changed_rows the rows that it reads';

-- Owner rights: who changes the table need not know of salesai. So nothing of the owner's own code may run here: keys
-- become text by their types' output functions, rows are compared byte by byte, and the names of the transition tables
-- lead nowhere else.
create function salesai.note_changed_rows() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- A key has one text, whatever the session's settings.
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
    task record;
    new_key text;
    old_key text;
    new_row text;
    old_row text;
    noted bigint;
    is_noted boolean := false;
begin
    perform salesai.check_column_trigger(tg_relid, tg_name, tg_op);
    for task in select * from salesai.column_task t where t.relation = tg_relid loop
        if tg_op = 'TRUNCATE' then
            delete from salesai.column_value v where v.task_id = task.id;
            continue;
        end if;
        -- While a column of the key is gone, the task stands still; then all rows are listed anew.
        select format('array[%s]', string_agg(format('pg_catalog.format(''%%s'', n.%I)', a.attname), ', ' order by k.place)),
            format('array[%s]', string_agg(format('pg_catalog.format(''%%s'', o.%I)', a.attname), ', ' order by k.place))
        into new_key, old_key
        from unnest(task.key_columns) with ordinality k (name, place)
        join pg_attribute a on a.attrelid = tg_relid and a.attname = k.name and a.attnum > 0
        having count(*) = cardinality(task.key_columns);
        continue when new_key is null;
        if tg_op <> 'INSERT' then
            execute format('delete from salesai.column_value v using old_rows o where v.task_id = $1 and v.key = %s %s', old_key,
                case tg_op when 'UPDATE' then format('and not exists (select from new_rows n where %s = %s)', new_key, old_key) end)
            using task.id;
        end if;
        continue when tg_op = 'DELETE';
        -- The value's own column never counts, so that writing it asks for nothing.
        select string_agg(format('n.%I', a.attname), ', ' order by a.attnum), string_agg(format('o.%I', a.attname), ', ' order by a.attnum)
        into new_row, old_row
        from pg_attribute a
        where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v' and a.attname <> task.target_column
          and (a.attname = task.source or not exists (
              select from pg_attribute s where s.attrelid = tg_relid and s.attname = task.source and s.attnum > 0));
        execute format(
            'insert into salesai.column_value as v (task_id, key) select $1, %s from new_rows n %s
             on conflict (task_id, key) do update
             set state = ''waiting'', attempts = 0, losses = 0, not_before = now(), changed_at = now(),
                 value_version = case when $2 then null else v.value_version end,
                 lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null',
            new_key,
            case tg_op when 'UPDATE' then format(
                'left join old_rows o on %s = %s where o.%I is null or row(%s)::record operator(pg_catalog.*<>) row(%s)::record',
                old_key, new_key, task.key_columns[1], old_row, new_row) end)
        using task.id, tg_op = 'INSERT';
        get diagnostics noted = row_count;
        is_noted := is_noted or noted > 0;
    end loop;
    if is_noted then
        perform salesai.wake_worker();
    end if;
    return null;
end
$$;
comment on function salesai.note_changed_rows() is 'Notes which rows of a table have to be asked about again; fired on tables of salesai.column_task';

create function salesai.check_operator(operator text, arguments jsonb, options jsonb) returns void
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'check_operator_wrapper';
comment on function salesai.check_operator(text, jsonb, jsonb) is
    'Refuses what salesai.apply_operator would: arguments that do not go with the operator, an adapter that is not active or belongs to another model';

create function salesai.change_column_task(previous salesai.column_task, task salesai.column_task) returns salesai.column_task
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    changed salesai.column_task;
begin
    update salesai.column_task t
    set owner_name = task.owner_name, source = task.source, is_expression = task.is_expression, key_columns = task.key_columns,
        operator = task.operator, arguments = task.arguments, options = task.options,
        version = t.version + 1, wanted_version = t.version + 1, not_before = now(),
        is_listing = t.is_listing or t.key_columns <> task.key_columns,
        listed_key = case when t.key_columns = task.key_columns then t.listed_key end,
        error_code = null, error_message = null, error_hint = null
    where t.id = previous.id
    returning * into changed;
    if previous.key_columns <> task.key_columns then
        delete from salesai.column_value v where v.task_id = previous.id;
    end if;
    -- What is being asked is the old question; also of rows that a worker has at this moment.
    update salesai.column_value v
    set state = 'waiting', not_before = clock_timestamp(),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where v.task_id = previous.id and v.state = 'running';
    return changed;
end
$$;
comment on function salesai.change_column_task(salesai.column_task, salesai.column_task) is 'Has a column task ask something else, of all rows; used by salesai.column_task';

create function salesai.column_task(
    relation regclass, target text, operator text, source text, labels text[] default null, statement text default null,
    fields text[] default null, instruction text default null, model text default null, adapter text default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    previous salesai.column_task;
    task salesai.column_task;
    problem text;
begin
    if relation is null or target is null or operator is null or source is null then
        raise exception 'relation, target, operator and source must not be NULL' using errcode = '22023';
    end if;
    if operator not in ('classify', 'sentiment', 'is_true', 'extract', 'summarize', 'generate') then
        raise exception 'operator "%" cannot keep a column', operator using errcode = '22023',
            hint = 'Use classify, sentiment, is_true, extract, summarize or generate.';
    end if;
    task.relation := relation;
    task.target_column := target;
    task.source := source;
    task.operator := operator;
    task.arguments := jsonb_strip_nulls(jsonb_build_object('labels', labels, 'statement', statement, 'fields', fields, 'instruction', instruction));
    task.options := salesai.operator_options(model, adapter);
    perform salesai.check_operator(operator, task.arguments, task.options);
    problem := salesai.relation_problem(relation);
    if problem is not null then
        raise exception '%', problem using errcode = '55000',
            hint = 'Name an ordinary table with a primary key; of a partitioned one, no part can be named either.';
    end if;
    select pg_get_userbyid(c.relowner) into task.owner_name from pg_class c where c.oid = relation;
    if not salesai.is_column_owner(task.owner_name) then
        raise exception 'must be owner of table %', relation using errcode = '42501';
    end if;
    -- Who writes now is waited for: rows that come later are noted, those before are listed.
    execute format('lock table %s in share row exclusive mode', relation);
    task.is_expression := not exists (
        select from pg_attribute a where a.attrelid = relation and a.attname = source and a.attnum > 0 and not a.attisdropped);
    task.key_columns := array(select k.name from salesai.relation_key(relation) k order by k.place);
    if not exists (select from pg_attribute a where a.attrelid = relation and a.attname = target and a.attnum > 0 and not a.attisdropped) then
        execute format('alter table %s add column %I %s', relation, target,
            case operator when 'is_true' then 'boolean' when 'extract' then 'jsonb' else 'text' end);
    end if;
    perform salesai.watch_relation(relation);
    problem := salesai.column_task_problem(task);
    if problem is not null then
        raise exception '%', problem using errcode = '55000';
    end if;
    -- An expression that does not fit is refused now.
    execute 'select d.document ' || salesai.column_document(task) || ' limit 0';
    select * into previous from salesai.column_task t where t.relation = task.relation and t.target_column = target for no key update;
    if previous.id is null then
        insert into salesai.column_task (relation, owner_name, target_column, source, is_expression, key_columns, operator, arguments, options)
        values (relation, task.owner_name, target, source, task.is_expression, task.key_columns, operator, task.arguments, task.options)
        returning * into task;
    elsif (previous.owner_name, previous.source, previous.is_expression, previous.key_columns, previous.operator, previous.arguments, previous.options)
        = (task.owner_name, task.source, task.is_expression, task.key_columns, task.operator, task.arguments, task.options) then
        return previous.id;
    else
        task := salesai.change_column_task(previous, task);
    end if;
    insert into salesai.column_task_version (task_id, version, source, operator, arguments, options)
    values (task.id, task.version, task.source, task.operator, task.arguments, task.options);
    perform salesai.wake_worker();
    return task.id;
end
$$;
comment on function salesai.column_task(regclass, text, text, text, text[], text, text[], text, text, text) is
    'Keeps a column (target) of a table up to date: what an operator says of source, a column or an expression over the columns of a row. operator: classify (labels), sentiment, is_true (statement), extract (fields), summarize or generate (instruction). The target is made where there is none. A worker, or salesai.process(), fills it with the rights of the table''s owner, for rows that are there and whenever a source changes; salesai.column_tasks shows how far it is. Called again for the same target, it changes what is asked: old values stay until each is replaced. Returns the number of the task';

create function salesai.own_column_task(task bigint) returns salesai.column_task
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    found salesai.column_task;
begin
    select * into found from salesai.column_task t where t.id = task for no key update;
    if found.id is null then
        raise exception 'column task % does not exist', task using errcode = 'P0002',
            hint = 'salesai.column_tasks lists them; act as the owner of the table.';
    end if;
    return found;
end
$$;
comment on function salesai.own_column_task(bigint) is 'A column task that the present user may change, locked; fails for others';

create function salesai.column_task_pause(task bigint) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select salesai.own_column_task($1);
    update salesai.column_task t set is_paused = true where t.id = $1;
$$;
comment on function salesai.column_task_pause(bigint) is 'Asks nothing for this column any more; changes are noted, and what runs is finished';

create function salesai.column_task_resume(task bigint) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select salesai.own_column_task($1);
    update salesai.column_task t set is_paused = false, not_before = now(), error_code = null, error_message = null, error_hint = null
    where t.id = $1;
    select salesai.wake_worker();
$$;
comment on function salesai.column_task_resume(bigint) is 'Takes salesai.column_task_pause back, and tries again at once what is blocked';

create function salesai.column_task_backfill(task bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    filled constant salesai.column_task := salesai.own_column_task(task);
begin
    -- A version that says the same: values that it would make again are known.
    insert into salesai.column_task_version (task_id, version, source, operator, arguments, options, model, model_sha256,
        adapter_generation, prompt_version)
    select v.task_id, v.version + 1, v.source, v.operator, v.arguments, v.options, v.model, v.model_sha256,
        v.adapter_generation, v.prompt_version
    from salesai.column_task_version v where v.task_id = filled.id and v.version = filled.version;
    update salesai.column_task t
    set version = t.version + 1, wanted_version = t.version + 1, is_listing = true, listed_key = null, not_before = now()
    where t.id = filled.id;
    perform salesai.wake_worker();
end
$$;
comment on function salesai.column_task_backfill(bigint) is
    'Looks at all rows again, and asks about those that no trigger noted (of logical replication, say) or whose value is stale: other weights, another generation of the adapter or another prompt template made it';

create function salesai.column_task_retry(task bigint) returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select salesai.own_column_task($1);
    with retried as (
        update salesai.column_value v set state = 'waiting', attempts = 0, losses = 0, not_before = now()
        where v.task_id = $1 and v.state = 'failed'
        returning 1),
    woken as materialized (select salesai.wake_worker())
    select (select count(*) from retried) from woken
$$;
comment on function salesai.column_task_retry(bigint) is 'Asks again about the rows that failed; returns how many';

create function salesai.column_task_drop(task bigint) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    dropped constant salesai.column_task := salesai.own_column_task(task);
    event text;
begin
    if not exists (select from salesai.column_task t where t.relation = dropped.relation and t.id <> task)
        and exists (select from pg_class c where c.oid = dropped.relation) then
        foreach event in array array['insert', 'update', 'delete', 'truncate'] loop
            execute format('drop trigger if exists salesai_column_task_%s on %s', event, dropped.relation);
        end loop;
    end if;
    delete from salesai.column_task t where t.id = task;
end
$$;
comment on function salesai.column_task_drop(bigint) is 'Ends a column task; the column stays as it is';

create function salesai.forget_column_tasks() returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ delete from salesai.column_task t where not exists (select from pg_class c where c.oid = t.relation) $$;
comment on function salesai.forget_column_tasks() is 'Ends the tasks of tables that were dropped. A worker does it by itself';
