-- Doors to the sidecar and the vault, and what is built directly on them.

create function salesai.sidecar_state() returns jsonb
language c volatile strict parallel restricted as 'MODULE_PATHNAME', 'sidecar_state_wrapper';
comment on function salesai.sidecar_state() is 'State and models of the inference sidecar; {"error": ...} when it cannot be reached. Never raises for that';

create function salesai.embedding_values(texts text[], timeout_ms integer default null) returns setof real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'embedding_values_wrapper';
comment on function salesai.embedding_values(text[], integer) is 'Embeddings of texts in one call to the sidecar, in order';

create function salesai.model_embedding_values(
    model text, texts text[], timeout_ms integer default null, model_sha256 text default null) returns setof real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'model_embedding_values_wrapper';
comment on function salesai.model_embedding_values(text, text[], integer, text) is 'The same by a named model (NULL: the default one); 55000 when it has other weights than those asked for';

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

create function salesai.inspect_transcript(transcript text, format text) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'inspect_transcript_wrapper';
comment on function salesai.inspect_transcript(text, text) is
    'Whether a transcript can be read, as JSON: {format, media_type, duration_ms}; the errors of salesai.parse_transcript, but for plain text, which is not read';

create function salesai.payload_hash(payload bytea) returns bytea
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'payload_hash_wrapper';
comment on function salesai.payload_hash(bytea) is 'SHA-256 of what arrived (salesai.interaction.content_hash)';

create function salesai.email_headers(message bytea) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'email_headers_wrapper';
comment on function salesai.email_headers(bytea) is
    'Headers of a message as JSON: {message_id, thread_key, subject, sent_at_ms, participants, mail_kind, media_type}. mail_kind: personal, auto_reply or bounce (RFC 3834, RFC 3464)';

create function salesai.parse_email(message bytea) returns jsonb
language c immutable strict parallel safe cost 1000 as 'MODULE_PATHNAME', 'parse_email_wrapper';
comment on function salesai.parse_email(bytea) is 'Headers and segments of an RFC 5322 message as JSON; part says what is new, quoted or a signature';

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
