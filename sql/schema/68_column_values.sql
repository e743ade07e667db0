-- What a worker does for derived columns, each in a short transaction, and how far they are.

create function salesai.due_column_tasks() returns setof salesai.column_task
language sql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
    select t.* from salesai.column_task t
    where not t.is_paused and t.not_before <= clock_timestamp()
      and salesai.may_act_for((select r.oid from pg_roles r where r.rolname = t.owner_name))
      and (t.is_listing
           or exists (select from salesai.column_value v where v.task_id = t.id and v.state = 'waiting' and v.not_before <= clock_timestamp())
           or exists (select from salesai.column_value v where v.task_id = t.id and v.state in ('done', 'failed') and v.version < t.wanted_version)
           or exists (select from salesai.column_value v where v.task_id = t.id and v.state = 'running'
                        and salesai.is_lost(v.lease_expires_at, v.holder_pid, v.holder_started_at)))
      and not exists (select from salesai.queue_pause p where p.source = '')
$$;
comment on function salesai.due_column_tasks() is 'Column tasks that something can be done for now';

create function salesai.claim_column_rows(rows_max integer, lease_ms integer) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses_max constant integer := 10;
    token constant uuid := gen_random_uuid();
    task salesai.column_task;
    rows jsonb;
begin
    -- Each in turn, whichever by chance. Whoever changes what is asked has the row: nothing is leased before it is known.
    select t.* into task from salesai.column_task t
    where t.id = (select d.id from salesai.due_column_tasks() d order by random() limit 1) for share skip locked;
    if task.id is null then
        return null;
    end if;
    -- Whoever holds such a row dies.
    update salesai.column_value v
    set state = 'failed', version = task.version, error_class = 'record_permanent', error_code = '58000', error_hint = null,
        error_message = format('its worker died or was too slow %s times', losses_max), changed_at = now(),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where v.id in (select l.id from salesai.column_value l
                   where l.task_id = task.id and l.state = 'running' and l.losses >= losses_max
                     and salesai.is_lost(l.lease_expires_at, l.holder_pid, l.holder_started_at)
                   for update skip locked);
    with lost as materialized (
        select v.id from salesai.column_value v
        where v.task_id = task.id and v.state = 'running' and salesai.is_lost(v.lease_expires_at, v.holder_pid, v.holder_started_at)
        limit rows_max for update skip locked),
    waiting as materialized (
        select v.id from salesai.column_value v
        where v.task_id = task.id and v.state = 'waiting' and v.not_before <= clock_timestamp()
        order by v.not_before, v.id limit rows_max for update skip locked),
    stale as materialized (
        select v.id from salesai.column_value v
        where v.task_id = task.id and v.state in ('done', 'failed') and v.version < task.wanted_version
        order by v.version limit rows_max for update skip locked),
    claimed as (
        update salesai.column_value v
        set state = 'running', lease_token = token, losses = v.losses + (v.state = 'running')::integer,
            attempts = case when v.state in ('done', 'failed') then 0 else v.attempts end,
            lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0),
            holder_pid = pg_backend_pid(),
            holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
        where v.id in (select id from lost union all select id from waiting union all select id from stale limit rows_max)
        returning v.id, v.key)
    select coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'key', c.key)), '[]') into rows from claimed c;
    if rows = '[]' and not task.is_listing then
        return null;
    end if;
    return jsonb_build_object('task_id', task.id, 'token', token, 'role', task.owner_name, 'problem', salesai.column_task_problem(task),
        'operator', task.operator, 'arguments', task.arguments, 'options', task.options, 'is_listing', task.is_listing, 'rows', rows);
end
$$;
comment on function salesai.claim_column_rows(integer, integer) is 'Leases rows of a column task to this backend: what is asked of them, or why nothing can be; NULL when nothing is due';

-- Rows that somebody changes now are being replaced.
create function salesai.renew_column_rows(token uuid, lease_ms integer) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.column_value v set lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
    where v.id in (select m.id from salesai.column_value m where m.state = 'running' and m.lease_token = $1 for update skip locked);
    select exists (select from salesai.column_value v where v.state = 'running' and v.lease_token = $1)
$$;
comment on function salesai.renew_column_rows(uuid, integer) is 'Renews a lease; false when all of it was lost';

create function salesai.release_column_rows(task_id bigint, token uuid, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.column_value v
    set state = 'waiting', not_before = clock_timestamp() + make_interval(secs => $3 / 1000.0),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where v.id in (select m.id from salesai.column_value m
                   where m.state = 'running' and m.task_id = $1 and ($2 is null or m.lease_token = $2) for update skip locked)
$$;
comment on function salesai.release_column_rows(bigint, uuid, integer) is 'Gives leased rows back without consuming an attempt; token NULL: whoever has them';

create function salesai.forget_column_rows(row_ids bigint[], token uuid) returns void
language sql
set search_path = pg_catalog, pg_temp
-- Somebody may have a row who waits for one that was just written.
as $$
    delete from salesai.column_value v where v.id in (
        select m.id from salesai.column_value m where m.id = any ($1) and m.lease_token = $2 for update skip locked)
$$;
comment on function salesai.forget_column_rows(bigint[], uuid) is 'Takes leased rows that are gone off the list';

create function salesai.block_column_task(task_id bigint, token uuid, code text, message text, hint text, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select salesai.release_column_rows($1, $2, 0);
    update salesai.column_task t
    set error_code = $3, error_message = $4, error_hint = $5,
        not_before = clock_timestamp() + make_interval(secs => coalesce($6 / 1000.0, 30 * (random() + 0.5)))
    where t.id in (select c.id from salesai.column_task c where c.id = $1 for no key update skip locked)
$$;
comment on function salesai.block_column_task(bigint, uuid, text, text, text, integer) is
    'Notes why nothing can be done for a column task, which is looked at again after retry_ms, or about 30 s; its rows lose no attempt';

create function salesai.fail_column_row(
    row_id bigint, token uuid, class text, code text, message text, hint text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    attempts_max constant integer := 5;
    is_own_fault constant boolean := class like 'record%';
    -- As in salesai.fail_job.
    pause_s constant double precision := random() + 0.5;
begin
    update salesai.column_value v
    set attempts = v.attempts + is_own_fault::integer, changed_at = clock_timestamp(),
        state = case when class = 'record_permanent' or is_own_fault and v.attempts + 1 >= attempts_max then 'failed' else 'waiting' end,
        version = t.version,
        not_before = clock_timestamp() + make_interval(secs => pause_s * case class
            when 'pipeline_temporary' then 5 when 'pipeline_permanent' then 30 else 2 ^ v.attempts end),
        error_class = class, error_code = code, error_message = message, error_hint = hint,
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    from salesai.column_task t
    where v.id = (select m.id from salesai.column_value m where m.id = row_id and m.lease_token = token for update skip locked)
      and t.id = v.task_id;
end
$$;
comment on function salesai.fail_column_row(bigint, uuid, text, text, text, text) is 'Notes that a leased row failed, in the classes of salesai.fail_job';

-- The rest runs with the rights of the table's owner, whose code it calls. Nobody waits for its errors, so it returns them.
create function salesai.column_document(task salesai.column_task) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- A query of its own, so that no name of ours stands before one of the table's.
    select format('from only %s t cross join lateral (select (%s)::text as document from (select t.*) s) d', (task).relation,
        case when (task).is_expression then (task).source else quote_ident((task).source) end)
$$;
comment on function salesai.column_document(salesai.column_task) is 'The rows (t) of a column task''s table, each with what the operator is applied to (d.document), as a part of a statement';

create function salesai.column_key_condition(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select string_agg(format('t.%I %s $1[%s]::%s', k.name, k.equal, k.place, k.type), ' and ' order by k.place) from salesai.relation_key(relation) k $$;
comment on function salesai.column_key_condition(regclass) is 'What a row (t) with the key $1 fulfils, as a part of a statement';

create function salesai.list_column_rows(task_id bigint, rows_max integer) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
set bytea_output = 'hex'
-- Below what a deadlock is looked for after: somebody who changes a row and waits for another of these goes first.
set lock_timeout = '200ms'
as $$
declare
    task salesai.column_task;
    key_columns text;
    last_key text[];
    listed bigint;
    code text;
    message text;
begin
    select * into task from salesai.column_task t where t.id = task_id and t.is_listing for no key update skip locked;
    if task.id is null then
        return '{}';
    end if;
    select string_agg(format('t.%I', k.name), ', ' order by k.place) into key_columns from salesai.relation_key(task.relation) k;
    execute format(
        'with page as materialized (select array[%1$s] as key from only %2$s t where $1 is null or %3$s order by %4$s limit $2),
         numbered as materialized (select p.key, row_number() over () as number from page p),
         noted as (
             insert into salesai.column_value (task_id, key) select $3, n.key from numbered n order by n.number
             on conflict (task_id, key) do nothing)
         select max(n.number), (select l.key from numbered l order by l.number desc limit 1) from numbered n',
        (select string_agg(format('pg_catalog.format(''%%s'', t.%I)', k.name), ', ' order by k.place) from salesai.relation_key(task.relation) k),
        task.relation,
        (select format('row(%s) %s row(%s)', key_columns, min(k.greater), string_agg(format('$1[%s]::%s', k.place, k.type), ', ' order by k.place))
         from salesai.relation_key(task.relation) k),
        key_columns)
    into listed, last_key using task.listed_key, rows_max, task_id;
    update salesai.column_task t
    set listed_key = coalesce(last_key, t.listed_key), is_listing = coalesce(listed, 0) >= rows_max,
        error_code = null, error_message = null, error_hint = null
    where t.id = task_id;
    return jsonb_build_object('listed', coalesce(listed, 0));
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text;
    return jsonb_build_object('error', jsonb_build_object('code', code, 'message', message));
end
$$;
comment on function salesai.list_column_rows(bigint, integer) is 'Notes the next rows of a table, in the order of its key: {listed}; nothing where another session does it';

create function salesai.makes_the_same(a salesai.column_task_version, b salesai.column_task_version) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select (a.operator, a.arguments, a.options, a.model, a.model_sha256, a.adapter_generation, a.prompt_version)
        is not distinct from (b.operator, b.arguments, b.options, b.model, b.model_sha256, b.adapter_generation, b.prompt_version)
$$;
comment on function salesai.makes_the_same(salesai.column_task_version, salesai.column_task_version) is
    'Whether two versions of a column task make the same value of the same text';

-- rows: [{id, key}]. Of each: {id, document, sha256, is_known} or {id, is_gone} or {id, error}.
create function salesai.column_documents(task_id bigint, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
set bytea_output = 'hex'
-- As in salesai.list_column_rows.
set lock_timeout = '200ms'
as $$
declare
    document_bytes_max constant integer := 16777216;
    task salesai.column_task;
    asked text;
    locked text;
    item record;
    row_counted bigint;
    document text;
    sha256 text;
    result jsonb := '[]';
    denied jsonb;
    code text;
    message text;
begin
    select * into task from salesai.column_task t where t.id = task_id;
    asked := format('select d.document, encode(sha256(convert_to(d.document, ''UTF8'')), ''hex'') as sha256 %s where %s',
        salesai.column_document(task), salesai.column_key_condition(task.relation));
    locked := format('select from only %s t where %s for no key update skip locked', task.relation, salesai.column_key_condition(task.relation));
    for item in select r.id, r.key, v.source_sha256, v.value_version, null::jsonb as error
                from jsonb_to_recordset(rows) r (id bigint, key text[]) join salesai.column_value v on v.id = r.id loop
        begin
            execute asked into document, sha256 using item.key;
            get diagnostics row_counted = row_count;
            if row_counted > 0 then
                -- What could not be written is not asked either.
                execute locked using item.key;
                get diagnostics row_counted = row_count;
                continue when row_counted = 0;
            end if;
            result := result || case
                when row_counted = 0 then jsonb_build_object('id', item.id, 'is_gone', true)
                when octet_length(document) > document_bytes_max then
                    jsonb_build_object('id', item.id, 'error', jsonb_build_object('code', '54000', 'message', 'the document is longer than 16 MiB'))
                else jsonb_build_object('id', item.id, 'key', item.key, 'document', document, 'sha256', sha256,
                    'is_known', item.source_sha256 is not distinct from sha256 and exists (
                        select from salesai.column_task_version a join salesai.column_task_version b on b.task_id = a.task_id
                        where a.task_id = task.id and a.version = item.value_version and b.version = task.version
                          and salesai.makes_the_same(a, b))) end;
        exception when others then
            get stacked diagnostics code = returned_sqlstate, message = message_text;
            -- Such a message may quote the data.
            message := case when code like '22%' then 'the source of the row cannot be evaluated' else message end;
            item.error := jsonb_build_object('code', code, 'message', message);
            -- The table is locked: it is so for all rows.
            if code in ('55P03', '40P01') then
                return jsonb_build_object('error', item.error);
            end if;
            result := result || jsonb_build_object('id', item.id, 'error', item.error);
            denied := case when code like '42%' then item.error else denied end;
        end;
    end loop;
    -- A name or a right that is missing is so for all rows, unless one could be read.
    if denied is not null and not exists (select from jsonb_array_elements(result) r where not r ? 'error') then
        return jsonb_build_object('error', denied);
    end if;
    return jsonb_build_object('rows', result);
end
$$;
comment on function salesai.column_documents(bigint, jsonb) is 'What the operator of a column task is applied to, for these rows';

-- The weights, the generation of the adapter and the version of the prompt that answered: others than before are a version
-- of their own.
create function salesai.made_version(task_id bigint, maker jsonb) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    made salesai.column_task_version;
    answered record;
begin
    select m.* into answered from jsonb_to_record(maker) m (
        model text, model_sha256 text, adapter_generation bigint, prompt_version integer);
    for attempt in 1..2 loop
        select v.* into made from salesai.column_task t join salesai.column_task_version v on v.task_id = t.id and v.version = t.version
        where t.id = made_version.task_id;
        if answered.model is null
            or (made.model, made.model_sha256, made.adapter_generation, made.prompt_version)
                is not distinct from (answered.model, answered.model_sha256, answered.adapter_generation, answered.prompt_version)
        then
            return made.version;
        end if;
        -- Another worker may have noted it meanwhile.
        perform from salesai.column_task t where t.id = made_version.task_id for no key update;
    end loop;
    if made.model is null then
        update salesai.column_task_version v
        set model = answered.model, model_sha256 = answered.model_sha256, adapter_generation = answered.adapter_generation,
            prompt_version = answered.prompt_version
        where v.task_id = made.task_id and v.version = made.version;
        return made.version;
    end if;
    update salesai.column_task t set version = t.version + 1 where t.id = made.task_id;
    insert into salesai.column_task_version (task_id, version, source, operator, arguments, options, model, model_sha256,
        adapter_generation, prompt_version)
    values (made.task_id, made.version + 1, made.source, made.operator, made.arguments, made.options,
        answered.model, answered.model_sha256, answered.adapter_generation, answered.prompt_version);
    return made.version + 1;
end
$$;
comment on function salesai.made_version(bigint, jsonb) is 'The version of a column task that is made by these; maker: {model, model_sha256, adapter_generation, prompt_version}, NULL when no model was asked';

-- results: [{id, key, sha256, value, is_known}]. Rows before their values, as who changes the table locks them.
create function salesai.write_column_values(task_id bigint, token uuid, maker jsonb, results jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
set bytea_output = 'hex'
-- As in salesai.list_column_rows.
set lock_timeout = '200ms'
as $$
declare
    task salesai.column_task;
    made integer;
    key_condition text;
    locked text;
    write text;
    item record;
    sha256 text;
    row_counted bigint;
    written integer := 0;
    errors jsonb := '[]';
    denied jsonb;
    code text;
    message text;
    hint text;
begin
    made := salesai.made_version(task_id, maker);
    select * into task from salesai.column_task t where t.id = task_id;
    key_condition := salesai.column_key_condition(task.relation);
    locked := format('select encode(sha256(convert_to(d.document, ''UTF8'')), ''hex'') %s where %s for no key update of t skip locked',
        salesai.column_document(task), key_condition);
    select format('update only %s t set %I = %s where %s', task.relation, a.attname,
        case y.typcategory when 'S' then '$2' else '$2::' || format_type(a.atttypid, a.atttypmod) end, key_condition) into write
    from pg_attribute a join pg_type y on y.oid = a.atttypid
    where a.attrelid = task.relation and a.attname = task.target_column and a.attnum > 0;
    for item in select r.*, null::jsonb as error
                from jsonb_to_recordset(results) r (id bigint, key text[], sha256 text, value jsonb, is_known boolean) order by r.id loop
        begin
            execute locked into sha256 using item.key;
            get diagnostics row_counted = row_count;
            -- Somebody is changing it, or has deleted it.
            continue when row_counted = 0;
            if sha256 is distinct from item.sha256 then
                raise exception 'the row changed meanwhile' using errcode = '40001';
            end if;
            update salesai.column_value v
            set state = 'done', version = made, source_sha256 = item.sha256, attempts = 0, losses = 0,
                -- What is known was made by what it was made by, whatever answers now.
                value_version = case when not item.is_known then made else (
                    select max(b.version) from salesai.column_task_version a join salesai.column_task_version b on b.task_id = a.task_id
                    where a.task_id = v.task_id and a.version = v.value_version and salesai.makes_the_same(a, b)) end,
                error_class = null, error_code = null, error_message = null, error_hint = null, changed_at = clock_timestamp(),
                lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
            where v.id = item.id and v.lease_token = token;
            continue when not found;
            if not item.is_known then
                execute write using item.key, case task.operator when 'extract' then item.value::text else item.value #>> '{}' end;
                get diagnostics row_counted = row_count;
                if row_counted = 0 then
                    raise exception 'the table did not take the value' using errcode = '23000';
                end if;
            end if;
            written := written + 1;
        exception when others then
            get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
            message := case when code like '22%' then 'the value does not fit the column' else message end;
            item.error := jsonb_build_object('code', code, 'message', message, 'hint', nullif(hint, ''));
            if code in ('55P03', '40P01') then
                return jsonb_build_object('error', item.error);
            end if;
            errors := errors || jsonb_build_object('id', item.id, 'error', item.error);
            denied := case when code like '42%' then item.error else denied end;
        end;
    end loop;
    -- As in salesai.column_documents.
    if denied is not null and written = 0 then
        return jsonb_build_object('error', denied);
    end if;
    update salesai.column_task t set error_code = null, error_message = null, error_hint = null
    where t.id in (select c.id from salesai.column_task c where c.id = task_id and c.error_code is not null for no key update skip locked);
    return jsonb_build_object('written', written, 'errors', errors);
end
$$;
comment on function salesai.write_column_values(bigint, uuid, jsonb, jsonb) is
    'Writes what was said of leased rows whose source is still the same, each exactly once: {written, errors: [{id, error}]}, or why nothing can be written';

create view salesai.column_tasks with (security_invoker) as
select t.id, t.relation, t.target_column, t.operator, t.source, t.arguments, t.options ->> 'model' as model, t.options ->> 'adapter' as adapter,
    t.owner_name, t.version,
    case when t.is_paused then 'paused' when t.error_code is not null then 'blocked' when t.is_listing then 'listing'
         when r.waiting > 0 then 'working' else 'idle' end as state,
    greatest(r.rows, case when t.is_listing then c.reltuples::bigint end) as rows, r.done, r.waiting, r.failed, r.stale,
    coalesce(t.error_message, (
        select v.error_message from salesai.column_value v where v.task_id = t.id and v.error_code is not null
        order by v.changed_at desc limit 1)) as last_error,
    t.error_hint, case when t.error_code is not null then t.not_before end as next_attempt_at, t.created_at
from salesai.column_task t
left join pg_catalog.pg_class c on c.oid = t.relation
cross join lateral (
    select count(*) as rows,
        count(*) filter (where v.state = 'done' and v.version >= t.wanted_version) as done,
        count(*) filter (where v.state in ('waiting', 'running') or v.version < t.wanted_version) as waiting,
        count(*) filter (where v.state = 'failed' and v.version >= t.wanted_version) as failed,
        count(*) filter (where v.value_version < t.version) as stale
    from salesai.column_value v where v.task_id = t.id) r;
comment on view salesai.column_tasks is
    'Column tasks and how far each is (rows are counted, which takes a while for many). state: blocked says that nothing can be done now, last_error why; rows: an estimate while listing; waiting: to be asked, or asked again; stale: an older version made the value that the column still has';

create view salesai.column_task_errors with (security_invoker) as
select t.id as task_id, t.relation, t.target_column, v.key, v.state, v.error_class as class, v.error_code as code, v.error_message as message,
    v.error_hint as hint, v.attempts, case v.state when 'waiting' then v.not_before end as next_attempt_at, v.changed_at as occurred_at
from salesai.column_value v join salesai.column_task t on t.id = v.task_id
where v.error_code is not null;
comment on view salesai.column_task_errors is
    'Rows of column tasks whose last attempt failed. state failed: waits for salesai.column_task_retry, or for its source to change; waiting: is tried again at next_attempt_at';
