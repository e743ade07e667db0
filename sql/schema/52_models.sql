-- Doors to the sidecar and the vault, and what is built directly on them.

create function salesai.sidecar_state() returns jsonb
language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'sidecar_state_wrapper';
comment on function salesai.sidecar_state() is 'State and models of the inference sidecar; {"error": ...} when it cannot be reached. Never raises for that';

create function salesai.embedding_values(texts text[], timeout_ms integer default null) returns setof real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'embedding_values_wrapper';
comment on function salesai.embedding_values(text[], integer) is 'Embeddings of texts in one call to the sidecar, in order';

create function salesai.embed(content text) returns @extschema:vector@.vector
language sql stable strict parallel restricted cost 100000
as $$ select v::@extschema:vector@.vector from salesai.embedding_values(array[content]) v $$;
comment on function salesai.embed(text) is 'Embedding of a text by the default model: 384 dimensions, length 1, for all-MiniLM-L6-v2. Text beyond its 256 tokens does not count';

create function salesai.embed(contents text[]) returns @extschema:vector@.vector[]
language sql stable strict parallel restricted cost 100000
as $$
    select array_agg(e.v::@extschema:vector@.vector order by e.position)
    from salesai.embedding_values(contents) with ordinality e (v, position)
$$;
comment on function salesai.embed(text[]) is 'Embeddings of texts, in order, in one call to the sidecar';

create function salesai.token_count(content text) returns integer
language c stable strict parallel restricted cost 10000 as 'MODULE_PATHNAME', 'token_count_wrapper';
comment on function salesai.token_count(text) is 'Tokens of a text under the default embedding model''s tokenizer, special tokens not counted';

create function salesai.chunk(content text, max_tokens integer default null, overlap_tokens integer default 0)
returns table ("position" integer, start_char integer, end_char integer, token_count integer, content text)
language c stable parallel restricted cost 10000 rows 10 as 'MODULE_PATHNAME', 'chunk_wrapper';
comment on function salesai.chunk(text, integer, integer) is
    'Splits a text at paragraph, sentence or word borders into pieces of at most max_tokens (default: what the embedding model takes). Characters are counted from 0, end excluded';

create function salesai.parse_transcript(transcript text, format text) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'parse_transcript_wrapper';
comment on function salesai.parse_transcript(text, text) is
    'Segments of a transcript as JSON: {format, duration_ms, segments: [{speaker, turn, start_char, end_char, start_ms, end_ms, content}]}. format: auto, vtt, srt, plain';

create function salesai.parse_email(message bytea) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'parse_email_wrapper';
comment on function salesai.parse_email(bytea) is 'Headers, body and segments of an RFC 5322 message as JSON';

create function salesai.parse_note(body text) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'parse_note_wrapper';
comment on function salesai.parse_note(text) is 'Paragraphs of a note as JSON segments';

create function salesai.new_data_key(interaction_id bigint) returns bytea
language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'new_data_key_wrapper';
comment on function salesai.new_data_key(bigint) is 'A fresh AES-256 key for one interaction, wrapped by the master key';

create function salesai.seal(payload bytea, wrapped_key bytea, interaction_id bigint, version integer) returns bytea
language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'seal_wrapper';
comment on function salesai.seal(bytea, bytea, bigint, integer) is 'Deflates and encrypts a payload (AES-256-GCM-SIV), bound to its interaction and version';

create function salesai.unseal(ciphertext bytea, wrapped_key bytea, interaction_id bigint, version integer) returns bytea
language c stable strict parallel restricted as 'MODULE_PATHNAME', 'unseal_wrapper';
comment on function salesai.unseal(bytea, bytea, bigint, integer) is 'Reverses salesai.seal; fails when anything was changed';

create function salesai.master_key_state() returns text
language c stable parallel restricted as 'MODULE_PATHNAME', 'master_key_state_wrapper';
comment on function salesai.master_key_state() is 'NULL when the master key file can be used, else what is wrong with it';

create function salesai.library_version() returns text
language c immutable parallel safe as 'MODULE_PATHNAME', 'library_version_wrapper';
comment on function salesai.library_version() is 'Version of the loaded shared library';

create function salesai.wake_worker() returns void
language c volatile parallel unsafe as 'MODULE_PATHNAME', 'wake_worker_wrapper';
comment on function salesai.wake_worker() is 'Wakes the background worker when this transaction commits';

create function salesai.create_embedding_set(model text, model_sha256 text, dimensions integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    set_id bigint;
    table_name text;
begin
    insert into salesai.embedding_set (model, model_sha256, dimensions)
    values (model, model_sha256, dimensions) returning id into set_id;
    table_name := 'embedding_' || set_id;
    execute format(
        'create table salesai.%I (
             chunk_id bigint primary key references salesai.chunk on delete cascade,
             embedding @extschema:vector@.vector(%s) not null)', table_name, dimensions);
    execute format(
        'create index %I on salesai.%I using hnsw (embedding @extschema:vector@.vector_cosine_ops)',
        table_name || '_index', table_name);
    execute format('alter table salesai.%I enable row level security, force row level security', table_name);
    execute format(
        'create policy visible on salesai.%I
             using (exists (select from salesai.chunk c where c.id = chunk_id))
             with check (salesai.writes())', table_name);
    execute format(
        'grant select on salesai.%I to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
         grant select, insert, update, delete on salesai.%1$I to salesai_worker', table_name);
    execute format('comment on table salesai.%I is %L', table_name,
        format('Embeddings of set %s: %s, %s dimensions', set_id, model, dimensions));
    return set_id;
end
$$;
comment on function salesai.create_embedding_set(text, text, integer) is
    'Makes an embedding set in state "building" with its own table and HNSW index; not an extension member, so that pg_dump carries it';

create function salesai.activate_embedding_set(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update salesai.embedding_set set state = 'retired' where state = 'active' and id <> set_id;
    update salesai.embedding_set set state = 'active' where id = set_id;
    if not found then
        raise exception 'embedding set % does not exist', set_id using errcode = 'P0002';
    end if;
end
$$;
comment on function salesai.activate_embedding_set(bigint) is 'Makes this set the one that search uses';

create function salesai.active_embedding_set(model text, model_sha256 text, dimensions integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    active salesai.embedding_set;
begin
    select * into active from salesai.embedding_set where state = 'active';
    if not found then
        perform pg_advisory_xact_lock(hashtextextended('salesai.embedding_set', 0));
        select * into active from salesai.embedding_set where state = 'active';
        if not found then
            perform salesai.activate_embedding_set(
                salesai.create_embedding_set(model, model_sha256, dimensions));
            select * into active from salesai.embedding_set where state = 'active';
        end if;
    end if;
    if active.model_sha256 <> model_sha256 then
        raise exception 'the sidecar''s embedding model is not the one of the active embedding set' using
            errcode = '55000',
            detail = format('The set was made by "%s" (%s), the sidecar runs "%s" (%s).',
                            active.model, left(active.model_sha256, 12), model, left(model_sha256, 12)),
            hint = 'Start the sidecar with the model of the active set.';
    end if;
    return active.id;
end
$$;
comment on function salesai.active_embedding_set(text, text, integer) is
    'Id of the active set, made on first use; an error when it was made by other weights';
