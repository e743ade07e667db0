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

create function salesai.generate_texts(prompts text[], options jsonb) returns text[]
language c volatile strict parallel unsafe cost 1000000 as 'MODULE_PATHNAME', 'generate_texts_wrapper';
comment on function salesai.generate_texts(text[], jsonb) is 'salesai.generate_text for many prompts at once; used by salesai.generate';

create function salesai.generate_text_stream(prompt text, options jsonb) returns setof text
language c volatile strict parallel unsafe cost 1000000 rows 100 as 'MODULE_PATHNAME', 'generate_text_stream_wrapper';
comment on function salesai.generate_text_stream(text, jsonb) is 'The same in pieces; used by salesai.generate_stream';

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
    'Text that a language model writes on a prompt. json_schema, regex or choices (one of them): the text obeys it, or the call fails with 54000 when max_tokens are too few; properties of a schema stand in the order that jsonb gives them. adapter: a name in salesai.adapters. temperature 0: the likeliest text; above it, seed makes it reproducible. The prompt leaves the database only for the server that runs the model and is not kept; the text is, for salesai.result_cache. NULL for a NULL prompt';

create function salesai.generate(
    prompts text[], json_schema jsonb default null, system text default null, model text default null,
    adapter text default null, temperature real default 0, top_p real default 1, seed bigint default 0,
    max_tokens integer default 256, timeout_ms integer default null, regex text default null,
    choices text[] default null) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.generate_texts(prompts, jsonb_build_object(
        'json_schema', json_schema::text, 'system', system, 'model', model, 'adapter', adapter, 'temperature', temperature,
        'top_p', top_p, 'seed', seed, 'max_tokens', max_tokens, 'timeout_ms', timeout_ms, 'regex', regex, 'choices', choices))
$$;
comment on function salesai.generate(text[], jsonb, text, text, text, real, real, bigint, integer, integer, text, text[]) is
    'The same for many prompts, in order, in one call to the sidecar, NULL for a NULL one; timeout_ms is for all together. Fails where one of them does: salesai.apply_operator(''generate'', ...) has an error for each document';

create function salesai.generate_stream(
    prompt text, json_schema jsonb default null, system text default null, model text default null,
    adapter text default null, temperature real default 0, top_p real default 1, seed bigint default 0,
    max_tokens integer default 256, timeout_ms integer default null, regex text default null,
    choices text[] default null) returns setof text
language sql volatile cost 1000000 rows 100
set search_path = pg_catalog, pg_temp
as $$
    select salesai.generate_text_stream(prompt, jsonb_build_object(
        'json_schema', json_schema::text, 'system', system, 'model', model, 'adapter', adapter, 'temperature', temperature,
        'top_p', top_p, 'seed', seed, 'max_tokens', max_tokens, 'timeout_ms', timeout_ms, 'regex', regex, 'choices', choices))
$$;
comment on function salesai.generate_stream(text, jsonb, text, text, text, real, real, bigint, integer, integer, text, text[]) is
    'salesai.generate in pieces as the model writes them, a row each; together they are its text. In the select list a driver that reads row by row, or a cursor, has each piece before the next is written; a FROM clause collects all first. timeout_ms is for the whole, with the time that the reader takes';
