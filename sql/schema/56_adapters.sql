-- Registration of models and adapters, and the doors to the sidecar's copies. Owner rights, because nobody may
-- touch the tables themselves; who may call what is in 90_privileges.sql.

create function salesai.register_model(
    name text, kind text default 'language', source text default 'local', sha256 text default null,
    dimensions integer default null, tokens_max integer default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    model_id bigint;
begin
    if register_model.name is null or register_model.name !~ '\S' then
        raise exception 'model name must not be empty' using errcode = '22023';
    end if;
    insert into salesai.model as m (name, kind, source, sha256, dimensions, tokens_max, registered_by)
    values (register_model.name, register_model.kind, register_model.source, register_model.sha256,
        register_model.dimensions, register_model.tokens_max, salesai.current_role_name())
    on conflict on constraint model_name_sha256_key do nothing
    returning m.id into model_id;
    if model_id is null then
        select m.id into model_id from salesai.model m
        where m.name = register_model.name and m.sha256 is not distinct from register_model.sha256;
    end if;
    return model_id;
end
$$;
comment on function salesai.register_model(text, text, text, text, integer, integer) is
    'Declares a model that the sidecar does not serve at the moment: a base of adapters, or (source => ''remote'') one that another server runs. Returns its id; declaring it again changes nothing';

create function salesai.register_models() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    recorded integer;
begin
    insert into salesai.model (name, kind, source, sha256, dimensions, tokens_max, weight_bytes, registered_by)
    select s ->> 'name', s ->> 'kind', case when (s ->> 'is_remote')::boolean then 'remote' else 'local' end,
        nullif(s ->> 'sha256', ''), nullif((s ->> 'dimensions')::integer, 0), nullif((s ->> 'tokens_max')::integer, 0),
        nullif((s ->> 'weight_bytes')::bigint, 0), salesai.current_role_name()
    from salesai.served('models') s
    where s ->> 'kind' in ('language', 'embedding')
    on conflict on constraint model_name_sha256_key do nothing;
    get diagnostics recorded = row_count;
    return recorded;
end
$$;
comment on function salesai.register_models() is 'Records the models that the sidecar serves now; returns how many were new. Does nothing while it cannot be reached';

create function salesai.served(kind text) returns setof jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    with sidecar as materialized (select salesai.sidecar_state() -> kind as items)
    select item from sidecar, jsonb_array_elements(case jsonb_typeof(items) when 'array' then items else '[]' end) item
$$;
comment on function salesai.served(text) is 'What the sidecar has in memory now: models or adapters; no rows while it cannot be reached';

create function salesai.base_model(base text) returns salesai.model
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    found_model salesai.model;
begin
    perform salesai.register_models();
    select m.* into found_model
    from salesai.model m
    left join salesai.served('models') s on s ->> 'name' = m.name and nullif(s ->> 'sha256', '') is not distinct from m.sha256
    where m.kind = 'language' and (m.name = base or (base is null and (s ->> 'is_default')::boolean))
    order by s is null, m.registered_at desc, m.id desc
    limit 1;
    if found_model.id is null then
        raise exception '%', case when base is null then 'the default language model is not known'
                                  else format('language model "%s" is not known', base) end using
            errcode = '42704',
            detail = 'The sidecar does not serve it, and it is not in salesai.model.',
            hint = 'Start the sidecar that serves it, or name it: salesai.register_model(...), then base => ''its name''.';
    end if;
    return found_model;
end
$$;
comment on function salesai.base_model(text) is 'The language model of this name, NULL: the sidecar''s default one; 42704 when it is neither served nor declared';

create function salesai.begin_adapter(
    name text, config jsonb, base text default null, task text default null, parent text default null,
    trained_on jsonb default '{}') returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    base_model salesai.model;
    adapter_id bigint;
begin
    if begin_adapter.name is null or begin_adapter.name !~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$' then
        raise exception 'adapter name is not usable' using
            errcode = '22023',
            hint = 'Use 1 to 128 letters of A to Z, digits, dots, dashes, underscores and slashes; begin with a letter or digit.';
    end if;
    base_model := salesai.base_model(base);
    insert into salesai.adapter as a (name, model, base_sha256, task, config, rank, parent_adapter_id, trained_on, created_by)
    values (begin_adapter.name, base_model.name, base_model.sha256, begin_adapter.task, begin_adapter.config,
        salesai.adapter_rank(begin_adapter.config), salesai.resolve_adapter(parent), coalesce(begin_adapter.trained_on, '{}'),
        salesai.current_role_name())
    returning a.id into adapter_id;
    return adapter_id;
end
$$;
comment on function salesai.begin_adapter(text, jsonb, text, text, text, jsonb) is
    'Begins an adapter whose file arrives in parts: then salesai.add_adapter_part for each, and salesai.finish_adapter. Arguments as in salesai.register_adapter. Returns its id';

create function salesai.adapter_rank(config jsonb) returns integer
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    highest numeric;
begin
    if config is null or jsonb_typeof(config) <> 'object' or octet_length(config::text) > 65536 then
        raise exception 'config must be a JSON object of at most 64 KiB' using
            errcode = '22023',
            hint = 'Pass the adapter_config.json that PEFT wrote.';
    end if;
    if coalesce(config ->> 'peft_type', 'LORA') <> 'LORA' then
        raise exception 'config has peft_type "%", only LORA can be served', config ->> 'peft_type' using errcode = '22023';
    end if;
    -- In a case, because the planner may compute constants that a where clause would drop.
    select max(case jsonb_typeof(r) when 'number' then r::text::numeric end) into highest
    from (select config -> 'r'
          union all
          select p.value from jsonb_each(case jsonb_typeof(config -> 'rank_pattern')
              when 'object' then config -> 'rank_pattern' else '{}' end) p) ranks (r);
    if jsonb_typeof(config -> 'r') is distinct from 'number' or highest not between 1 and 65536 or highest <> trunc(highest) then
        raise exception 'config has no usable rank "r"' using
            errcode = '22023',
            hint = 'Pass the adapter_config.json that PEFT wrote.';
    end if;
    return highest;
end
$$;
comment on function salesai.adapter_rank(jsonb) is 'Highest rank in an adapter_config.json (r, rank_pattern); 22023 when it is not one of LoRA';

create function salesai.add_adapter_part(adapter_id bigint, "position" integer, content bytea) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    part_bytes_max constant integer := 4194304;
    content_bytes_max constant bigint := 1073741824;
    received salesai.adapter;
    others bigint;
begin
    select a.* into received from salesai.adapter a where a.id = add_adapter_part.adapter_id for share;
    if received.id is null then
        raise exception 'adapter % does not exist', add_adapter_part.adapter_id using errcode = 'P0002';
    elsif received.state <> 'receiving' then
        raise exception 'adapter % is complete', add_adapter_part.adapter_id using
            errcode = '55000', hint = 'Begin a new generation with salesai.begin_adapter.';
    elsif add_adapter_part.position is null or add_adapter_part.position < 0 then
        raise exception 'position must be at least 0' using errcode = '22023';
    elsif add_adapter_part.content is null or octet_length(add_adapter_part.content) not between 1 and part_bytes_max then
        raise exception 'a part must have 1 to % bytes', part_bytes_max using
            errcode = '22023', hint = 'Cut the file into parts of 4 MiB.';
    end if;
    select coalesce(sum(octet_length(p.content)), 0) into others from salesai.adapter_part p
    where p.adapter_id = add_adapter_part.adapter_id and p.position <> add_adapter_part.position;
    if others + octet_length(add_adapter_part.content) > content_bytes_max then
        raise exception 'the adapter is larger than % bytes', content_bytes_max using errcode = '54000';
    end if;
    insert into salesai.adapter_part as p (adapter_id, position, content)
    values (add_adapter_part.adapter_id, add_adapter_part.position, add_adapter_part.content)
    on conflict on constraint adapter_part_pkey do update set content = excluded.content;
end
$$;
comment on function salesai.add_adapter_part(bigint, integer, bytea) is
    'Stores one part of an adapter''s file, 1 byte to 4 MiB, 1 GiB in all; positions count from 0. The same position again replaces the part';

create function salesai.inspect_adapter(adapter_id bigint) returns jsonb
language c stable strict parallel restricted security definer cost 100000
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'inspect_adapter_wrapper';
comment on function salesai.inspect_adapter(bigint) is
    'Reads the stored file of an adapter part by part: {sha256, content_bytes, part_count, tensor_count}; 22023 when parts are missing or it is not a safetensors file';

create function salesai.finish_adapter(adapter_id bigint, activate boolean default true) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    received salesai.adapter;
    same salesai.adapter;
    file jsonb;
begin
    select a.* into received from salesai.adapter a where a.id = finish_adapter.adapter_id for update;
    if received.id is null then
        raise exception 'adapter % does not exist', finish_adapter.adapter_id using errcode = 'P0002';
    elsif received.state = 'receiving' then
        file := salesai.inspect_adapter(received.id);
        perform salesai.lock_adapter(received.name);
        same := salesai.same_adapter(received.name, received.model, received.config, file ->> 'sha256');
        if same.id is null then
            update salesai.adapter a
            set state = 'registered', sha256 = file ->> 'sha256', content_bytes = (file ->> 'content_bytes')::bigint,
                generation = (select coalesce(max(o.generation), 0) + 1 from salesai.adapter o where o.name = received.name)
            where a.id = received.id
            returning a.* into same;
        else
            delete from salesai.adapter a where a.id = received.id;
        end if;
        received := same;
    end if;
    if activate then
        perform salesai.activate_adapter(received.name, received.generation);
    end if;
    return received.id;
end
$$;
comment on function salesai.finish_adapter(bigint, boolean) is
    'Checks the parts of an adapter, makes it the next generation of its name and, unless activate is false, the one that calls get. Where the name has the same file with the same configuration already, that generation is kept and its id returned';

create function salesai.lock_adapter(name text) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$ select pg_advisory_xact_lock(hashtextextended('salesai.adapter ' || name, 0)) $$;
comment on function salesai.lock_adapter(text) is 'Makes changes to the generations of a name take turns, until the end of the transaction';

create function salesai.same_adapter(name text, model text, config jsonb, sha256 text) returns salesai.adapter
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select a.* from salesai.adapter a
    where a.name = $1 and a.model = $2 and a.config = $3 and a.sha256 = $4
    order by a.generation desc limit 1
$$;
comment on function salesai.same_adapter(text, text, jsonb, text) is 'The newest generation with this file, base and configuration, if any';

create function salesai.register_adapter(
    name text, content bytea, config jsonb, base text default null, task text default null,
    parent text default null, activate boolean default true, trained_on jsonb default '{}') returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    part_bytes constant integer := 4194304;
    same salesai.adapter;
    adapter_id bigint;
begin
    if content is null or octet_length(content) = 0 then
        raise exception 'content must not be empty' using
            errcode = '22023', hint = 'Pass the bytes of adapter_model.safetensors.';
    end if;
    same := salesai.same_adapter(register_adapter.name, (salesai.base_model(base)).name, register_adapter.config,
        encode(sha256(content), 'hex'));
    adapter_id := same.id;
    if adapter_id is null then
        adapter_id := salesai.begin_adapter(register_adapter.name, register_adapter.config, base, register_adapter.task,
            parent, register_adapter.trained_on);
        for part in 0 .. (octet_length(content) - 1) / part_bytes loop
            perform salesai.add_adapter_part(adapter_id, part, substring(content from part * part_bytes + 1 for part_bytes));
        end loop;
    end if;
    return salesai.finish_adapter(adapter_id, activate);
end
$$;
comment on function salesai.register_adapter(text, bytea, jsonb, text, text, text, boolean, jsonb) is
    'Stores a LoRA adapter of PEFT as the next generation of its name: content is adapter_model.safetensors, config is adapter_config.json, base the model it was trained for (default: the sidecar''s default language model), parent the adapter it was trained from (id or name). Returns its id. The same file with the same configuration again changes nothing. Files beyond what a bytea holds: salesai.begin_adapter';

create function salesai.resolve_adapter(reference text) returns bigint
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    adapter_id bigint;
begin
    select a.id into adapter_id from salesai.adapter a
    where (a.name = reference and a.state = 'active') or (a.id::text = reference and a.state <> 'receiving')
    order by a.name = reference desc limit 1;
    if adapter_id is null then
        raise exception 'adapter "%" does not exist', reference using
            errcode = '42704',
            detail = 'No active generation has this name, and no adapter this id.',
            hint = 'salesai.adapters lists the adapters; salesai.activate_adapter makes a generation active.';
    end if;
    return adapter_id;
end
$$;
comment on function salesai.resolve_adapter(text) is 'Id of the active adapter with this name, or of the adapter with this id; 42704 when there is none';

create function salesai.activate_adapter(name text, generation bigint) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform salesai.lock_adapter(activate_adapter.name);
    if not exists (select from salesai.adapter a
                   where a.name = activate_adapter.name and a.generation = activate_adapter.generation) then
        raise exception 'adapter "%" has no generation %', activate_adapter.name, activate_adapter.generation using
            errcode = '42704', hint = 'salesai.adapters lists the adapters.';
    end if;
    update salesai.adapter a set state = 'retired'
    where a.name = activate_adapter.name and a.state = 'active' and a.generation <> activate_adapter.generation;
    update salesai.adapter a set state = 'active', activated_at = clock_timestamp()
    where a.name = activate_adapter.name and a.generation = activate_adapter.generation and a.state <> 'active';
end
$$;
comment on function salesai.activate_adapter(text, bigint) is
    'Makes this generation the one that calls get from the commit on, older ones too (rollback). Calls that run keep the generation they began with';

create function salesai.retire_adapter(name text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
    select salesai.lock_adapter(name);
    with retired as (
        update salesai.adapter a set state = 'retired' where a.name = $1 and a.state = 'active' returning a.id)
    select exists (select from retired)
$$;
comment on function salesai.retire_adapter(text) is 'Takes an adapter out of use: calls that name it fail. Nothing is deleted; false when no generation was active';

create function salesai.remove_adapter(adapter_id bigint) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    removed salesai.adapter;
begin
    delete from salesai.adapter a where a.id = remove_adapter.adapter_id and a.state <> 'active' returning a.* into removed;
    if removed.id is null then
        if exists (select from salesai.adapter a where a.id = remove_adapter.adapter_id) then
            raise exception 'adapter % is active', remove_adapter.adapter_id using
                errcode = '55000', hint = 'Retire it by salesai.retire_adapter, or activate another generation first.';
        end if;
        raise exception 'adapter % does not exist', remove_adapter.adapter_id using errcode = 'P0002';
    end if;
end
$$;
comment on function salesai.remove_adapter(bigint) is 'Deletes an adapter that is not active, with its bytes; also one whose parts were never finished';

create function salesai.active_adapter(name text)
returns table (adapter_id bigint, generation bigint, model text, sha256 text, content_bytes bigint, config text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Volatile, so that a long statement sees which generation is active now.
begin
    return query select a.id, a.generation, a.model, a.sha256, a.content_bytes, a.config::text
    from salesai.adapter a where a.name = active_adapter.name and a.state = 'active';
end
$$;
comment on function salesai.active_adapter(text) is 'What the sidecar has to be told before it gets the active generation of this name; no row when there is none';

create function salesai.load_adapter(name text, timeout_ms integer default null) returns bigint
language c volatile parallel unsafe security definer cost 1000000
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'load_adapter_wrapper';
comment on function salesai.load_adapter(text, integer) is
    'Sends the active generation of an adapter to the sidecar, part by part; returns the generation. Calls that name an adapter do this by themselves when the sidecar lacks it; here it can be done before the first one, and shows whether the sidecar accepts the file';

create function salesai.unload_adapter(name text, timeout_ms integer default null) returns boolean
language c volatile parallel unsafe as 'MODULE_PATHNAME', 'unload_adapter_wrapper';
comment on function salesai.unload_adapter(text, integer) is
    'Frees the sidecar''s copy of an adapter; calls that run with it finish first, and the next call that names it brings it back. False when it was not loaded';
