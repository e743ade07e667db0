\echo Use "alter extension pg_salesai update to '0.2.0'" to load this file. \quit

-- Why: LoRA adapters and their bytes live in the database, calls may name one, and salesai.generate gives access
-- to the model without evidence. The sidecar learns who calls, so that callers share it fairly and no computed
-- prompt is reused across rights.
-- The database may be used while this runs, but calls to salesai.insight wait for it.

-- The registry of models and of LoRA adapters. The bytes of adapters live here, so that a sidecar keeps nothing.

create table salesai.model (
    id bigint generated always as identity primary key,
    name text not null,
    kind text not null check (kind in ('language', 'embedding')),
    source text not null default 'local' check (source in ('local', 'remote')),
    sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
    dimensions integer,
    tokens_max integer,
    weight_bytes bigint,
    registered_by text not null,
    registered_at timestamptz not null default now(),
    unique nulls not distinct (name, sha256)
);
comment on table salesai.model is
    'Models that the sidecar served when they were recorded, or that were declared; one row per version of the weights. Remote: another server runs it, so its weights are not known';
comment on column salesai.model.sha256 is 'SHA-256 of the weight file in lower-case hex; NULL when not known';
comment on column salesai.model.tokens_max is 'Most tokens of one input';

create table salesai.adapter (
    id bigint generated always as identity primary key,
    name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$'),
    generation bigint check (generation >= 1),
    state text not null default 'receiving' check (state in ('receiving', 'registered', 'active', 'retired')),
    model text not null,
    base_sha256 text,
    task text,
    config jsonb not null,
    rank integer not null check (rank >= 1),
    content_bytes bigint,
    sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
    parent_adapter_id bigint references salesai.adapter on delete set null,
    training_run_id bigint,
    trained_on jsonb not null default '{}',
    created_by text not null,
    created_at timestamptz not null default now(),
    activated_at timestamptz,
    unique (name, generation),
    check ((state = 'receiving') = (generation is null)),
    check ((state = 'receiving') = (sha256 is null)),
    check ((state = 'receiving') = (content_bytes is null))
);
create unique index adapter_active_index on salesai.adapter (name) where state = 'active';
create index adapter_parent_index on salesai.adapter (parent_adapter_id) where parent_adapter_id is not null;
comment on table salesai.adapter is
    'LoRA adapters, one row per generation of a name. At most one generation of a name is active: the one that calls get. receiving: parts still arrive; registered: complete, never active yet; retired: was active';
comment on column salesai.adapter.model is 'Name of the base model';
comment on column salesai.adapter.base_sha256 is 'Weights of the base model when the adapter was registered; NULL when not known';
comment on column salesai.adapter.config is 'The adapter_config.json of PEFT';
comment on column salesai.adapter.rank is 'Highest rank of its modules';
comment on column salesai.adapter.sha256 is 'SHA-256 of the safetensors file in lower-case hex';
comment on column salesai.adapter.training_run_id is 'The training run that made it; NULL when it came from elsewhere';
comment on column salesai.adapter.trained_on is 'What it was trained on, as the trainer says: sources, counts, notes';

create table salesai.adapter_part (
    adapter_id bigint not null references salesai.adapter on delete cascade,
    position integer not null check (position >= 0),
    content bytea not null check (octet_length(content) between 1 and 4194304),
    primary key (adapter_id, position)
);
-- Weights do not compress, and pieces of a value can then be read without the rest.
alter table salesai.adapter_part alter column content set storage external;
-- Weights remember what they were trained on: no policy, so that not even a grant shows them to anyone.
alter table salesai.adapter_part enable row level security, force row level security;
comment on table salesai.adapter_part is
    'The safetensors file of an adapter in parts of at most 4 MiB. Only salesai.load_adapter and salesai.inspect_adapter read it, with the rights of the owner';

alter table salesai.insight add column adapter_generation bigint;

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

-- Free generation, and what every generation asks first: who calls, and which generation of which adapter.

create function salesai.generation_context(model text, adapter text)
returns table (caller text, cache_salt bytea, adapter_model text, adapter_generation bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
-- Volatile, as salesai.active_adapter.
begin
    select c.caller, c.cache_salt into caller, cache_salt from salesai.caller() c;
    if adapter is not null then
        select a.model, a.generation into adapter_model, adapter_generation
        from salesai.active_adapter(generation_context.adapter) a;
        if adapter_model is distinct from coalesce(generation_context.model, adapter_model)
            and exists (select from salesai.model m where m.name = generation_context.model and m.source = 'remote')
        then
            -- An adapter of the other server's own.
            adapter_model := generation_context.model;
            adapter_generation := 0;
        end if;
    end if;
    return next;
end
$$;
comment on function salesai.generation_context(text, text) is
    'Digests of the caller and, for an adapter, its base and active generation, NULL when none is active; generation 0: the server that runs the model knows it';

create function salesai.generate_text(prompt text, options jsonb) returns text
language c volatile strict parallel unsafe cost 1000000 as 'MODULE_PATHNAME', 'generate_text_wrapper';
comment on function salesai.generate_text(text, jsonb) is 'One generation with the options as JSON; used by salesai.generate';

create function salesai.generate(
    prompt text, json_schema jsonb default null, system text default null, model text default null,
    adapter text default null, temperature real default 0, top_p real default 1, seed bigint default 0,
    max_tokens integer default 256, timeout_ms integer default null, regex text default null,
    choices text[] default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.generate_text(prompt, jsonb_build_object(
        'json_schema', json_schema::text, 'system', system, 'model', model, 'adapter', adapter, 'temperature', temperature,
        'top_p', top_p, 'seed', seed, 'max_tokens', max_tokens, 'timeout_ms', timeout_ms, 'regex', regex, 'choices', choices))
$$;
comment on function salesai.generate(text, jsonb, text, text, text, real, real, bigint, integer, integer, text, text[]) is
    'Text that a language model writes on a prompt. json_schema, regex or choices (one of them): the text obeys it, or the call fails with 54000 when max_tokens are too few; properties of a schema stand in the order that jsonb gives them. adapter: a name in salesai.adapters. temperature 0: the likeliest text; above it, seed makes it reproducible. The prompt leaves the database only for the server that runs the model; nothing is kept. NULL for a NULL prompt';

-- Answers are kept with the generation of the adapter that made them.

drop function salesai.keep_insight(text, salesai.insight_result, text, jsonb);

create function salesai.keep_insight(
    question text, result salesai.insight_result, model_sha256 text, adapter_generation bigint, filters jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    insight_id bigint;
begin
    insert into salesai.insight (created_by, question, filters, answer, method, reason, confidence, model,
        model_sha256, adapter, prompt_tokens, completion_tokens, elapsed_ms, adapter_generation)
    values (salesai.current_role_name(), question, filters, result.answer, result.method, result.reason,
        result.confidence, result.model, model_sha256, result.adapter, result.prompt_tokens,
        result.completion_tokens, result.elapsed_ms, adapter_generation)
    returning id into insight_id;
    insert into salesai.citation (insight_id, number, claim, interaction_id, segment_id, speaker, start_ms,
        end_ms, start_char, end_char, quote, similarity)
    select insight_id, c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
        c.start_char, c.end_char, c.quote, c.similarity
    from unnest(result.citations) c;
    return insight_id;
end
$$;
comment on function salesai.keep_insight(text, salesai.insight_result, text, bigint, jsonb) is 'Stores an answer with its citations; returns its id';

create or replace function salesai.insight(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0)
returns salesai.insight_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    evidence jsonb;
    answered jsonb;
    result salesai.insight_result;
begin
    if question is null or question !~ '\S' then
        raise exception 'question must not be empty' using errcode = '22023';
    end if;
    if evidence_count is null or evidence_count not between 1 and 50 then
        raise exception 'evidence_count must be between 1 and 50' using errcode = '22023';
    end if;
    select salesai.evidence(array_agg(h.chunk_id order by h.score desc, h.chunk_id)) into evidence
    from salesai.search(question, evidence_count, account, opportunity, kinds, since, until, speaker_side) h;
    answered := salesai.answer_question(question, coalesce(evidence, '[]'), jsonb_strip_nulls(jsonb_build_object(
        'model', model, 'adapter', adapter, 'timeout_ms', timeout_ms, 'max_tokens', max_tokens, 'seed', seed)));
    result := jsonb_populate_record(null::salesai.insight_result, answered);
    result.abstained := result.method = 'abstained';
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - started);
    if not current_setting('transaction_read_only')::boolean then
        result.insight_id := salesai.keep_insight(question, result, answered ->> 'model_sha256', (answered ->> 'adapter_generation')::bigint,
            jsonb_strip_nulls(jsonb_build_object('account', account, 'opportunity', opportunity, 'kinds', kinds,
                'since', since, 'until', until, 'speaker_side', speaker_side, 'seed', seed)));
    end if;
    return result;
end
$$;
comment on function salesai.insight(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint) is
    'Answers a question from the interactions that the caller may see. Every claim has a citation whose quote was found in the stored text; without support it abstains and says why. timeout_ms: for the answer, default salesai.timeout_ms, which also bounds the search. The answer is kept in salesai.insight, unless the transaction is read-only';

-- What an operator looks at.

create or replace view salesai.sidecar_status with (security_invoker) as
select s.state ->> 'error' is null as reachable, coalesce(s.state ->> 'state', 'unreachable') as state,
    s.state ->> 'version' as version, (s.state ->> 'uptime_seconds')::bigint as uptime_s,
    (s.state ->> 'running_requests')::integer as running_requests,
    (s.state ->> 'waiting_requests')::integer as waiting_requests,
    (s.state ->> 'waiting_requests_max')::integer as waiting_requests_max,
    (s.state ->> 'refused_requests')::bigint as refused_requests,
    (s.state ->> 'cancelled_requests')::bigint as cancelled_requests,
    (s.state ->> 'generation_steps')::bigint as generation_steps,
    (s.state ->> 'resident_bytes')::bigint as resident_bytes,
    s.state -> 'models' as models, s.state ->> 'error' as error, s.state -> 'adapters' as adapters,
    (s.state ->> 'kv_blocks_total')::bigint as kv_blocks_total, (s.state ->> 'kv_blocks_used')::bigint as kv_blocks_used,
    (s.state ->> 'kv_blocks_cached')::bigint as kv_blocks_cached,
    (s.state ->> 'prefix_hit_tokens')::bigint as prefix_hit_tokens,
    (s.state ->> 'preempted_sequences')::bigint as preempted_sequences
from (select salesai.sidecar_state() as state) s;
comment on view salesai.sidecar_status is 'The inference sidecar as it is now; one row, also when it cannot be reached';

create view salesai.adapters with (security_invoker) as
with loaded as materialized (select s.item from salesai.served('adapters') s (item))
select a.name, a.generation, a.state, a.model as base, a.task, a.rank, a.content_bytes as bytes,
    (l.item ->> 'generation')::bigint as loaded_generation,
    case when (l.item ->> 'generation')::bigint = a.generation then (l.item ->> 'running_sequences')::integer end as running_sequences,
    a.parent_adapter_id, a.trained_on, a.sha256, a.created_by, a.created_at, a.activated_at, a.id as adapter_id
from salesai.adapter a
left join loaded l on l.item ->> 'name' = a.name;
comment on view salesai.adapters is
    'Every generation of every LoRA adapter. loaded_generation: what the sidecar has of this name now, NULL when nothing or when it cannot be reached; running_sequences: texts that it writes with this generation';

create view salesai.models with (security_invoker) as
with served as materialized (select s.item from salesai.served('models') s (item))
select coalesce(m.name, s.item ->> 'name') as name, coalesce(m.kind, s.item ->> 'kind') as kind,
    coalesce(m.source, case when (s.item ->> 'is_remote')::boolean then 'remote' else 'local' end) as source,
    coalesce(m.sha256, nullif(s.item ->> 'sha256', '')) as sha256,
    coalesce(m.dimensions, nullif((s.item ->> 'dimensions')::integer, 0)) as dimensions,
    coalesce(m.tokens_max, nullif((s.item ->> 'tokens_max')::integer, 0)) as tokens_max,
    coalesce(m.weight_bytes, nullif((s.item ->> 'weight_bytes')::bigint, 0)) as bytes,
    s.item is not null as is_served, coalesce((s.item ->> 'is_default')::boolean, false) as is_default, m.registered_at
from salesai.model m
full join served s on s.item ->> 'name' = m.name
    and coalesce(nullif(s.item ->> 'sha256', ''), '') = coalesce(m.sha256, '');
comment on view salesai.models is
    'The models in salesai.model and those that the sidecar serves now; is_served is false for all while it cannot be reached';

create or replace function salesai.doctor() returns table (piece text, ok boolean, state text, remedy text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    sidecar jsonb := salesai.sidecar_state();
    embedding_model jsonb;
    active salesai.embedding_set;
    failed bigint;
    installed_version text := (select e.extversion from pg_extension e where e.extname = 'pg_salesai');
    vector_version text := (select e.extversion from pg_extension e where e.extname = 'vector');
    key_problem text := salesai.master_key_state();
begin
    return query values
        ('server_encoding', current_setting('server_encoding') = 'UTF8', current_setting('server_encoding'),
         'Create the database with encoding UTF8.'),
        ('extension', installed_version = salesai.library_version(),
         format('schema %s, library %s', installed_version, salesai.library_version()),
         'Run alter extension pg_salesai update, and restart the server after installing a new library.'),
        ('vector', string_to_array(vector_version, '.')::int[] >= array[0, 8, 4], vector_version,
         'Install pgvector 0.8.4 or later: older versions can corrupt HNSW indexes on vacuum.'),
        ('preload', 'pg_salesai' = any (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ',')),
         current_setting('shared_preload_libraries'),
         'Add pg_salesai to shared_preload_libraries and restart; without it call salesai.process() yourself.'),
        ('worker', exists (select from salesai.live_backends() b where b.is_worker),
         (select coalesce(string_agg('pid ' || b.pid, ', '), 'not running') from salesai.live_backends() b where b.is_worker),
         'Name this database in salesai.worker_databases and restart the server.'),
        ('statement_log', current_setting('log_statement') = 'none' and current_setting('log_min_duration_statement') = '-1'
            and current_setting('log_min_error_statement') in ('fatal', 'panic'),
         format('log_statement %s, log_min_duration_statement %s, log_min_error_statement %s', current_setting('log_statement'),
                current_setting('log_min_duration_statement'), current_setting('log_min_error_statement')),
         'Set log_statement = none, log_min_duration_statement = -1 and log_min_error_statement = fatal: statements carry customer text.'),
        ('master_key', key_problem is null, coalesce(key_problem, 'readable'),
         'Put 32 random bytes as 64 hex digits into the file that salesai.master_key_file names; only the server''s user may read it. Keep a copy elsewhere: without it no original can be read.'),
        ('sidecar', sidecar ->> 'error' is null and sidecar ->> 'state' = 'ready',
         coalesce(sidecar ->> 'error', sidecar ->> 'state'),
         'Start inference-sidecar on the socket that salesai.sidecar_socket names; its log says why it does not become ready.');
    select m into embedding_model from jsonb_array_elements(sidecar -> 'models') m
    where m ->> 'kind' = 'embedding' and (m ->> 'is_default')::boolean;
    select * into active from salesai.embedding_set s where s.state = 'active';
    return query values
        ('embedding_set', active.id is not null and (embedding_model is null or embedding_model ->> 'sha256' = active.model_sha256),
         case when active.id is null then 'none yet'
              when embedding_model ->> 'sha256' <> active.model_sha256 then format('made by other weights of "%s"', active.model)
              else format('%s, %s dimensions', active.model, active.dimensions) end,
         'It is made by the first processed interaction; the sidecar must run the weights that made it.');
    return query
        select 'adapters', count(*) filter (where not is_base_served) = 0,
            format('%s active, %s loaded', count(*), count(loaded_generation))
                || coalesce('; base not served: ' || string_agg(format('"%s" of "%s"', base, name), ', ') filter (where not is_base_served), ''),
            'Start the sidecar with the base models of the adapters, or take those adapters out of use by salesai.retire_adapter.'
        from (
            select a.name, a.model as base, l ->> 'generation' as loaded_generation,
                sidecar ->> 'error' is not null
                or exists (select from jsonb_array_elements(sidecar -> 'models') m where m ->> 'name' = a.model) as is_base_served
            from salesai.adapter a
            left join jsonb_array_elements(case jsonb_typeof(sidecar -> 'adapters') when 'array' then sidecar -> 'adapters' else '[]' end) l
                on l ->> 'name' = a.name
            where a.state = 'active') active_adapter;
    select count(*) into failed from salesai.job j where j.state = 'failed';
    return query values
        ('failed_jobs', failed = 0, failed::text, 'See salesai.pipeline_errors, mend the cause, then select salesai.retry_errors().');
end
$$;
comment on function salesai.doctor() is 'Each piece that the system needs, whether it works, and how to mend it when it does not';

-- Rights of what is new; an operator's own grants on the rest stay as they are.

do $do$
declare
    item record;
begin
    for item in
        select p.oid::regprocedure as name
        from pg_catalog.pg_proc p
        join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
        where p.pronamespace = 'salesai'::regnamespace and p.proacl is null
          and d.refobjid = (select e.oid from pg_catalog.pg_extension e where e.extname = 'pg_salesai')
        order by p.oid
    loop
        execute pg_catalog.format('revoke all on function %s from public', item.name);
        execute pg_catalog.format('grant execute on function %s to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker', item.name);
    end loop;
end
$do$;

-- Everybody may use an adapter, which loads it; only an administrator decides which there are.
revoke execute on function
    salesai.register_model(text, text, text, text, integer, integer), salesai.register_models(), salesai.base_model(text),
    salesai.begin_adapter(text, jsonb, text, text, text, jsonb), salesai.add_adapter_part(bigint, integer, bytea),
    salesai.inspect_adapter(bigint), salesai.finish_adapter(bigint, boolean),
    salesai.register_adapter(text, bytea, jsonb, text, text, text, boolean, jsonb),
    salesai.activate_adapter(text, bigint), salesai.retire_adapter(text), salesai.remove_adapter(bigint),
    salesai.unload_adapter(text, integer), salesai.lock_adapter(text)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;

revoke all on salesai.model, salesai.adapter, salesai.adapter_part, salesai.models, salesai.adapters from public;
grant select on salesai.model, salesai.adapter, salesai.models, salesai.adapters
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;

do $do$
declare
    item text;
begin
    foreach item in array array['model', 'model_id_seq', 'adapter', 'adapter_id_seq', 'adapter_part'] loop
        perform pg_catalog.pg_extension_config_dump(('salesai.' || item)::regclass, '');
    end loop;
end
$do$;
