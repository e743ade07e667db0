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

-- CRM objects. Each carries its origin (source, external_id), the source's own fields in properties,
-- and, where rights depend on it, the owning rep and team.

create table salesai.team (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
comment on table salesai.team is 'Sales teams; rights of managers are bound to them';

create table salesai.rep (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    email text,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
comment on table salesai.rep is 'Our own sales people';

create table salesai.team_member (
    team_id bigint not null references salesai.team on delete cascade,
    rep_id bigint not null references salesai.rep on delete cascade,
    primary key (team_id, rep_id)
);
comment on table salesai.team_member is 'Which rep belongs to which team; a rep may belong to several';

create table salesai.principal (
    role_name text primary key,
    rep_id bigint references salesai.rep on delete set null,
    read_scope text not null check (read_scope in ('own', 'team', 'all')),
    can_write boolean not null default false,
    builtin boolean not null default false
);
comment on table salesai.principal is
    'What a database role may see: own accounts, the team''s, or all. A role without a row has the widest scope of the principals it is a member of';

create table salesai.account (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    domain text,
    industry text,
    owner_rep_id bigint references salesai.rep,
    team_id bigint references salesai.team,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
create index account_name_index on salesai.account (lower(name));
create index account_domain_index on salesai.account (lower(domain));
comment on table salesai.account is 'Customer companies';

create table salesai.contact (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    account_id bigint references salesai.account,
    name text not null,
    email text,
    title text,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
create index contact_account_index on salesai.contact (account_id);
create index contact_email_index on salesai.contact (lower(email));
create index contact_name_index on salesai.contact (lower(name));
comment on table salesai.contact is 'People at customers';

create table salesai.opportunity (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    account_id bigint references salesai.account,
    name text not null,
    stage text not null,
    amount numeric,
    currency text,
    close_date date,
    owner_rep_id bigint references salesai.rep,
    team_id bigint references salesai.team,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
create index opportunity_account_index on salesai.opportunity (account_id);
comment on table salesai.opportunity is 'Deals; stage, amount and close date as the CRM last said';

create table salesai.opportunity_stage_history (
    opportunity_id bigint not null references salesai.opportunity on delete cascade,
    entered_at timestamptz not null,
    stage text not null,
    primary key (opportunity_id, entered_at, stage)
);
comment on table salesai.opportunity_stage_history is 'When a deal entered a stage';

-- Interactions, what arrived byte for byte (encrypted), who took part, and what was said.

create table salesai.interaction (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    kind text not null check (kind in ('call', 'email', 'meeting', 'note', 'document', 'crm_activity')),
    account_id bigint references salesai.account,
    opportunity_id bigint references salesai.opportunity,
    owner_rep_id bigint references salesai.rep,
    team_id bigint references salesai.team,
    occurred_at timestamptz not null,
    duration_ms bigint,
    subject text,
    thread_key text,
    language text,
    version integer not null default 1,
    content_hash bytea not null,
    state text not null default 'pending' check (state in ('pending', 'ready', 'failed')),
    processed_version integer,
    processed_at timestamptz,
    properties jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (source, external_id)
);
create index interaction_account_index on salesai.interaction (account_id, occurred_at);
create index interaction_opportunity_index on salesai.interaction (opportunity_id, occurred_at);
create index interaction_owner_index on salesai.interaction (owner_rep_id);
create index interaction_thread_index on salesai.interaction (thread_key) where thread_key is not null;
create index interaction_processed_index on salesai.interaction (processed_at);
comment on table salesai.interaction is
    'One call, email, meeting, note, document or CRM activity. version counts changed payloads of the same (source, external_id)';
comment on column salesai.interaction.content_hash is 'SHA-256 of the payload of the present version';
comment on column salesai.interaction.thread_key is 'E-mails: Message-ID that the thread started with';

create table salesai.data_key (
    interaction_id bigint primary key references salesai.interaction on delete cascade,
    wrapped_key bytea not null
);
comment on table salesai.data_key is
    'AES-256-GCM-SIV key of one interaction, wrapped by the master key (salesai.master_key_file). Deleting the row makes the originals unreadable for ever';

create table salesai.raw_payload (
    interaction_id bigint not null references salesai.interaction on delete cascade,
    version integer not null,
    media_type text not null,
    byte_count bigint not null,
    ciphertext bytea not null,
    created_at timestamptz not null default now(),
    primary key (interaction_id, version)
);
alter table salesai.raw_payload alter column ciphertext set storage external;
comment on table salesai.raw_payload is 'What arrived, byte for byte: deflated, then encrypted under the data key; every version is kept';

create table salesai.participant (
    id bigint generated always as identity primary key,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    name text not null,
    email text,
    side text not null default 'unknown' check (side in ('internal', 'external', 'unknown')),
    role text,
    rep_id bigint references salesai.rep,
    contact_id bigint references salesai.contact,
    unique (interaction_id, name)
);
comment on table salesai.participant is 'Who took part, under the name that the source gives, matched to reps and contacts where possible';

create table salesai.segment (
    id bigint generated always as identity primary key,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    version integer not null,
    position integer not null,
    turn integer not null,
    participant_id bigint references salesai.participant,
    start_char integer not null,
    end_char integer not null,
    start_ms bigint,
    end_ms bigint,
    content text not null,
    unique (interaction_id, version, position)
);
comment on table salesai.segment is
    'Utterances (one caption cue, line or paragraph). start_char and end_char are Unicode character offsets into the original text, end excluded; turn numbers runs of one speaker. Segments of old versions stay, so that old citations keep their place';

-- Index units and the registry of embedding sets. The vectors of a set live in a table of their own,
-- salesai.embedding_<set id>, made at run time by salesai.create_embedding_set.

create table salesai.chunk (
    id bigint generated always as identity primary key,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    version integer not null,
    position integer not null,
    first_position integer not null,
    last_position integer not null,
    start_char integer not null,
    end_char integer not null,
    token_count integer not null,
    heading text not null,
    content text not null,
    content_hash bytea not null,
    lexemes tsvector generated always as (
        pg_catalog.setweight(pg_catalog.to_tsvector('pg_catalog.english', heading), 'B')
        || pg_catalog.setweight(pg_catalog.to_tsvector('pg_catalog.english', content), 'A')) stored,
    kind text not null,
    occurred_at timestamptz not null,
    account_id bigint,
    opportunity_id bigint,
    owner_rep_id bigint,
    team_id bigint,
    unique (interaction_id, position)
);
create index chunk_lexemes_index on salesai.chunk using gin (lexemes);
create index chunk_account_index on salesai.chunk (account_id, occurred_at);
create index chunk_opportunity_index on salesai.chunk (opportunity_id);
comment on column salesai.chunk.content_hash is 'SHA-256 of what is embedded: heading, line feed, content';
comment on table salesai.chunk is
    'Index units: consecutive segments that fit the embedding model, of the present version only. heading says what and with whom; it is embedded and indexed with the content';

create table salesai.embedding_set (
    id bigint generated always as identity primary key,
    model text not null,
    model_sha256 text not null,
    dimensions integer not null check (dimensions between 1 and 2000),
    template text not null default '{heading}\n{content}',
    state text not null default 'building' check (state in ('building', 'active', 'retired')),
    created_at timestamptz not null default now()
);
create unique index embedding_set_active_index on salesai.embedding_set ((true)) where state = 'active';
comment on table salesai.embedding_set is 'A version of all embeddings: model, weights, dimensions, template. One set is active; its vectors are in salesai.embedding_<id>';

-- The job queue: leases with fencing tokens, so that no transaction stays open while a model runs
-- and no result is written twice.

create table salesai.job (
    id bigint generated always as identity primary key,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    kind text not null default 'index' check (kind in ('index')),
    version integer not null,
    lane text not null default 'interactive' check (lane in ('interactive', 'background')),
    priority integer not null default 0,
    state text not null default 'pending' check (state in ('pending', 'running', 'failed')),
    attempts integer not null default 0,
    not_before timestamptz not null default now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    holder_pid integer,
    holder_started_at timestamptz,
    created_at timestamptz not null default now(),
    unique (interaction_id, kind)
);
create index job_claim_index on salesai.job (lane desc, priority desc, id) where state <> 'failed';
comment on table salesai.job is 'Work that waits for a model. A finished job is deleted; a failed one stays and can be retried';

create table salesai.job_error (
    id bigint generated always as identity primary key,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    kind text not null,
    class text not null check (class in ('record_temporary', 'record_permanent', 'pipeline_temporary', 'pipeline_permanent')),
    step text not null,
    message text not null,
    attempt integer not null,
    occurred_at timestamptz not null default now()
);
create index job_error_interaction_index on salesai.job_error (interaction_id);
comment on table salesai.job_error is 'Every failure of a job with its class; never holds customer text';

-- Answers with their evidence.

create table salesai.insight (
    id bigint generated always as identity primary key,
    created_by text not null,
    question text not null,
    filters jsonb not null default '{}',
    answer text,
    method text not null check (method in ('generated', 'extractive', 'abstained')),
    reason text,
    confidence real,
    model text,
    model_sha256 text,
    adapter text,
    prompt_tokens integer,
    completion_tokens integer,
    elapsed_ms integer not null,
    created_at timestamptz not null default now(),
    adapter_generation bigint,
    check ((method = 'abstained') = (answer is null))
);
comment on table salesai.insight is 'Each answer that salesai.insight gave, or why it gave none';

create table salesai.citation (
    id bigint generated always as identity primary key,
    insight_id bigint not null references salesai.insight on delete cascade,
    number integer not null,
    claim text not null,
    interaction_id bigint not null references salesai.interaction on delete cascade,
    segment_id bigint not null references salesai.segment on delete cascade,
    speaker text,
    start_ms bigint,
    end_ms bigint,
    start_char integer not null,
    end_char integer not null,
    quote text not null,
    similarity real not null,
    unique (insight_id, number)
);
create index citation_interaction_index on salesai.citation (interaction_id);
comment on table salesai.citation is
    'The quote behind a claim, checked against the segment before it was stored; start_char and end_char are those of the segment in the original text';

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

-- Who asks. Row-level security, search and insight all depend on it.

create function salesai.current_role_name() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Not current_user: that is the owner inside a security-definer function.
    select case when current_setting('role') = 'none' then session_user::text else current_setting('role') end
$$;
comment on function salesai.current_role_name() is 'Role that the session acts as (SET ROLE, or the login role)';

create type salesai.principal_identity as (
    role_name text,
    rep_id bigint,
    team_ids bigint[],
    read_scope text,
    can_write boolean
);

create function salesai.current_principal() returns salesai.principal_identity
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
    select row(
        salesai.current_role_name(),
        p.rep_id,
        array(select m.team_id from salesai.team_member m where m.rep_id = p.rep_id),
        coalesce(p.read_scope, 'own'),
        coalesce(p.can_write, false))::salesai.principal_identity
    from (select 1) one
    left join lateral (
        select *
        from salesai.principal p
        where p.role_name = salesai.current_role_name()
           or exists (select from pg_roles r
                      where r.rolname = p.role_name
                        and pg_has_role(salesai.current_role_name(), r.oid, 'member'))
        order by p.role_name = salesai.current_role_name() desc,
                 array_position(array['all', 'team', 'own'], p.read_scope),
                 p.can_write desc
        limit 1
    ) p on true
$$;
comment on function salesai.current_principal() is
    'Rep, teams and rights of the session''s role, from salesai.principal; a role without any row sees and writes nothing';

-- The parts that policies use; each is evaluated once per query. Their search_path is fixed, because a policy
-- runs with the caller's, where "=" could be an operator of his own.
create function salesai.reads_all() returns boolean
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).read_scope = 'all' from salesai.current_principal() p $$;
comment on function salesai.reads_all() is 'True when the session''s principal may read every account';

create function salesai.reader_rep_id() returns bigint
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).rep_id from salesai.current_principal() p $$;
comment on function salesai.reader_rep_id() is 'Rep of the session''s principal, or NULL';

create function salesai.reader_team_ids() returns bigint[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select case (p).read_scope when 'team' then (p).team_ids else '{}' end from salesai.current_principal() p $$;
comment on function salesai.reader_team_ids() is 'Teams whose accounts the session''s principal may read';

create function salesai.writes() returns boolean
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select (p).can_write from salesai.current_principal() p $$;
comment on function salesai.writes() is 'True when the session''s principal may add and change data that it can read';

insert into salesai.principal (role_name, read_scope, can_write, builtin) values
    ('salesai_admin', 'all', true, true),
    ('salesai_manager', 'team', true, true),
    ('salesai_rep', 'own', true, true),
    ('salesai_analyst', 'all', false, true),
    ('salesai_gateway', 'all', true, true),
    ('salesai_worker', 'all', true, true);

-- Objects can be named by id, external id, name or (accounts) domain.
create function salesai.resolve_account(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(a.id) into ids
    from salesai.account a
    where a.id::text = reference or a.external_id = reference
       or lower(a.name) = lower(reference) or lower(a.domain) = lower(reference);
    return salesai.only_match('account', reference, ids);
end
$$;
comment on function salesai.resolve_account(text) is 'Id of the account with this id, external id, name or domain; P0002 when there is none';

create function salesai.resolve_opportunity(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(o.id) into ids
    from salesai.opportunity o
    where o.id::text = reference or o.external_id = reference or lower(o.name) = lower(reference);
    return salesai.only_match('opportunity', reference, ids);
end
$$;
comment on function salesai.resolve_opportunity(text) is 'Id of the opportunity with this id, external id or name; P0002 when there is none';

create function salesai.only_match(kind text, reference text, ids bigint[]) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if ids is null then
        raise exception '% "%" does not exist', kind, reference using
            errcode = 'P0002',
            detail = 'It does not exist or is not visible to this role.',
            hint = format('Look it up in salesai.%s, or load it by salesai.ingest_crm.', kind);
    end if;
    if cardinality(ids) > 1 then
        raise exception '% "%" is ambiguous', kind, reference using
            errcode = '22023',
            detail = format('%s rows match.', cardinality(ids)),
            hint = 'Give its id.';
    end if;
    return ids[1];
end
$$;
comment on function salesai.only_match(text, text, bigint[]) is 'The one id in ids; a clear error when there is none or more than one';

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

-- Ingestion: each function parses, stores payload and segments in one transaction, queues the model
-- work and returns. The same (source, external_id) with the same payload changes nothing.

create function salesai.normalise_name(name text) returns text
language sql immutable strict parallel safe
as $$ select lower(btrim(regexp_replace(regexp_replace(name, '\s*[\[(].*[\])]\s*$', ''), '\s+', ' ', 'g'))) $$;
comment on function salesai.normalise_name(text) is 'A speaker name without bracketed additions, in lower case, for matching';

-- Adds participants and matches them to reps and contacts: by e-mail first, then by name.
create function salesai.store_participants(interaction_id bigint, people jsonb) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.participant as known (interaction_id, name, email, side, role, rep_id, contact_id)
    select distinct on (person.name) $1, person.name, person.email,
        coalesce(person.side,
                 case when rep.id is not null then 'internal' when contact.id is not null then 'external' end,
                 case when person.domain in (select split_part(lower(r.email), '@', 2) from salesai.rep r) then 'internal'
                      when person.domain <> '' then 'external' end,
                 'unknown'),
        person.role, rep.id, contact.id
    from (select coalesce(nullif(p ->> 'name', ''), p ->> 'email') as name, p ->> 'email' as email,
                 case when p ->> 'side' in ('internal', 'external') then p ->> 'side' end as side,
                 p ->> 'role' as role, split_part(lower(coalesce(p ->> 'email', '')), '@', 2) as domain
          from jsonb_array_elements(people) p) person
    left join lateral (
        select r.id from salesai.rep r
        where lower(r.email) = lower(person.email) or lower(r.name) = salesai.normalise_name(person.name)
        order by (lower(r.email) = lower(person.email)) desc nulls last, r.id limit 1) rep on true
    left join lateral (
        select c.id from salesai.contact c, salesai.interaction i
        where rep.id is null and i.id = $1
          and (lower(c.email) = lower(person.email)
               or lower(c.name) = salesai.normalise_name(person.name)
                  and (i.account_id is null or c.account_id = i.account_id))
        order by (lower(c.email) = lower(person.email)) desc nulls last, c.id limit 1) contact on true
    where person.name is not null
    order by person.name, person.email nulls last
    on conflict on constraint participant_interaction_id_name_key do update
        set email = coalesce(excluded.email, known.email),
            side = case when excluded.side = 'unknown' then known.side else excluded.side end,
            role = coalesce(excluded.role, known.role),
            rep_id = coalesce(excluded.rep_id, known.rep_id),
            contact_id = coalesce(excluded.contact_id, known.contact_id)
$$;
comment on function salesai.store_participants(bigint, jsonb) is 'Adds participants ([{name, email, side, role}]) of an interaction and matches them to reps and contacts';

-- The one place that writes an interaction. item: kind, source, external_id, account, opportunity,
-- occurred_at, duration_ms, subject, thread_key, properties, media_type, participants, segments.
create function salesai.store_interaction(item jsonb, payload bytea) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    known salesai.interaction;
    account_id bigint := salesai.resolve_account(nullif(item ->> 'account', ''));
    opportunity_id bigint := salesai.resolve_opportunity(nullif(item ->> 'opportunity', ''));
    payload_hash bytea := sha256(payload);
    owner_id bigint;
    owner_team_id bigint;
    data_key bytea;
begin
    if coalesce(item ->> 'source', '') = '' or coalesce(item ->> 'external_id', '') = '' then
        raise exception 'source and external_id must not be empty' using
            errcode = '22023', hint = 'They name the interaction where it comes from, and make a repeated call harmless.';
    end if;
    if account_id is null and opportunity_id is not null then
        select o.account_id into account_id from salesai.opportunity o where o.id = opportunity_id;
    end if;
    select a.owner_rep_id, a.team_id into owner_id, owner_team_id from salesai.account a where a.id = account_id;

    -- The insert takes the row's lock even when it changes nothing, so two writers of one key take turns.
    insert into salesai.interaction as i (source, external_id, kind, account_id, opportunity_id, owner_rep_id,
        team_id, occurred_at, duration_ms, subject, thread_key, content_hash, properties)
    values (item ->> 'source', item ->> 'external_id', item ->> 'kind', account_id, opportunity_id,
        case when account_id is null then salesai.reader_rep_id() else owner_id end, owner_team_id,
        (item ->> 'occurred_at')::timestamptz, (item ->> 'duration_ms')::bigint,
        item ->> 'subject', item ->> 'thread_key', payload_hash, coalesce(item -> 'properties', '{}'))
    on conflict (source, external_id) do update set updated_at = i.updated_at
    returning * into known;

    if known.kind <> item ->> 'kind' then
        raise exception '"%" of source "%" is known as another kind of interaction', known.external_id, known.source using
            errcode = '22023', detail = format('It is a %s, not a %s.', known.kind, item ->> 'kind'),
            hint = 'Give it another external_id or source.';
    end if;
    if exists (select from salesai.raw_payload r where r.interaction_id = known.id) then
        if known.content_hash = payload_hash then
            return known.id;
        end if;
        update salesai.interaction i
        set version = i.version + 1, content_hash = payload_hash, state = 'pending', updated_at = now(),
            duration_ms = (item ->> 'duration_ms')::bigint,
            subject = coalesce(item ->> 'subject', i.subject),
            properties = i.properties || coalesce(item -> 'properties', '{}')
        where i.id = known.id
        returning * into known;
        select d.wrapped_key into data_key from salesai.data_key d where d.interaction_id = known.id;
    else
        data_key := salesai.new_data_key(known.id);
        insert into salesai.data_key (interaction_id, wrapped_key) values (known.id, data_key);
    end if;

    insert into salesai.raw_payload (interaction_id, version, media_type, byte_count, ciphertext)
    values (known.id, known.version, item ->> 'media_type', octet_length(payload),
            salesai.seal(payload, data_key, known.id, known.version));
    perform salesai.store_participants(known.id,
        coalesce(item -> 'participants', '[]')
        || (select coalesce(jsonb_agg(distinct jsonb_build_object('name', s ->> 'speaker')), '[]')
            from jsonb_array_elements(item -> 'segments') s where s ->> 'speaker' is not null));
    insert into salesai.segment (interaction_id, version, position, turn, participant_id,
        start_char, end_char, start_ms, end_ms, content)
    select known.id, known.version, s.position - 1, (s.value ->> 'turn')::integer, p.id,
        (s.value ->> 'start_char')::integer, (s.value ->> 'end_char')::integer,
        (s.value ->> 'start_ms')::bigint, (s.value ->> 'end_ms')::bigint, s.value ->> 'content'
    from jsonb_array_elements(item -> 'segments') with ordinality s (value, position)
    left join salesai.participant p on p.interaction_id = known.id and p.name = s.value ->> 'speaker';
    perform salesai.enqueue(known.id, known.version);
    return known.id;
end
$$;
comment on function salesai.store_interaction(jsonb, bytea) is
    'Stores an interaction with its sealed payload, participants and segments, and queues it. Unchanged payload: returns the known id';

create function salesai.ingest_call(
    source text, external_id text, transcript text, format text default 'auto',
    account text default null, opportunity text default null, started_at timestamptz default now(),
    participants jsonb default null, metadata jsonb default '{}', subject text default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parsed jsonb := salesai.parse_transcript(coalesce(transcript, ''), coalesce(format, 'auto'));
begin
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'call', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', started_at, 'duration_ms', parsed -> 'duration_ms',
            'subject', subject, 'properties', metadata, 'participants', coalesce(participants, '[]'),
            'media_type', case parsed ->> 'format' when 'vtt' then 'text/vtt' when 'srt' then 'application/x-subrip' else 'text/plain' end,
            'segments', parsed -> 'segments'),
        convert_to(transcript, 'UTF8'));
end
$$;
comment on function salesai.ingest_call(text, text, text, text, text, text, timestamptz, jsonb, jsonb, text) is
    'Stores a call transcript (WebVTT of Zoom and Teams, SRT, plain "Speaker: text"; format auto, vtt, srt or plain) and queues it; returns the interaction id. participants: [{name, email, side, role}]';

create function salesai.ingest_note(
    source text, external_id text, body text, account text default null, opportunity text default null,
    occurred_at timestamptz default now(), metadata jsonb default '{}', subject text default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    segments jsonb := salesai.parse_note(coalesce(body, ''));
begin
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'note', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', occurred_at, 'subject', subject,
            'properties', metadata, 'media_type', 'text/plain', 'segments', segments),
        convert_to(body, 'UTF8'));
end
$$;
comment on function salesai.ingest_note(text, text, text, text, text, timestamptz, jsonb, text) is
    'Stores a note and queues it; returns the interaction id';

create function salesai.ingest_email(
    source text, external_id text, message bytea, account text default null, opportunity text default null,
    metadata jsonb default '{}')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parsed jsonb := salesai.parse_email(coalesce(message, ''));
    correspondents text[];
begin
    if account is null and opportunity is null then
        -- The account is the only known one among the correspondents' domains.
        select array_agg(distinct a.id::text) into correspondents
        from salesai.account a
        where lower(a.domain) in (
            select split_part(lower(p ->> 'email'), '@', 2) from jsonb_array_elements(parsed -> 'participants') p);
        if cardinality(correspondents) = 1 then
            account := correspondents[1];
        end if;
    end if;
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'email', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', coalesce(to_timestamp((parsed ->> 'sent_at_ms')::double precision / 1000), now()),
            'subject', parsed -> 'subject', 'thread_key', parsed -> 'thread_key',
            'properties', metadata || jsonb_build_object('message_id', parsed -> 'message_id'),
            'participants', parsed -> 'participants', 'media_type', 'message/rfc822',
            'segments', parsed -> 'segments'),
        message);
end
$$;
comment on function salesai.ingest_email(text, text, bytea, text, text, jsonb) is
    'Stores an RFC 5322 message and queues it; returns the interaction id. Without account and opportunity the account comes from the correspondents'' domains. Segment offsets count characters of the decoded body';

create function salesai.original(interaction_id bigint, version integer default null) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.raw_payload r
    join salesai.data_key d using (interaction_id)
    where r.interaction_id = $1 and ($2 is null or r.version = $2)
    order by r.version desc limit 1
$$;
comment on function salesai.original(bigint, integer) is 'What arrived, byte for byte, of the latest or a given version; NULL when the caller may not see it';

-- CRM records: one upsert per record, each in its own subtransaction, so that a bad one blocks no other.

create function salesai.external_reference(kind text, source text, external_id text) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    id bigint;
begin
    if external_id is null then
        return null;
    end if;
    execute format('select t.id from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
        into id using source, external_id;
    if id is null then
        raise exception 'record names an unknown %', kind using
            errcode = 'P0002', hint = format('Load %ss first.', kind);
    end if;
    return id;
end
$$;
comment on function salesai.external_reference(text, text, text) is 'Id of a team, rep, account or contact by its external id';

-- Columns of each kind: how a record's fields are taken over. Order: what others refer to comes first.
create function salesai.ingest_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    owner_id bigint := salesai.external_reference('rep', $1, record ->> 'owner');
    account_id bigint := case when kind in ('contact', 'opportunity')
        then salesai.external_reference('account', $1, record ->> 'account') end;
    fields jsonb;
    sets text;
    names text;
    record_id bigint;
    is_new boolean;
    team_id bigint := salesai.external_reference('team', $1, record ->> 'team');
begin
    if team_id is null and kind in ('account', 'opportunity') then
        select min(m.team_id) into team_id from salesai.team_member m where m.rep_id = owner_id;
    end if;
    fields := jsonb_build_object('name', record -> 'name', 'properties', record, 'source_updated_at', record -> 'updated_at')
        || case kind
            when 'team' then '{}'
            when 'rep' then jsonb_build_object('email', record -> 'email')
            when 'account' then jsonb_build_object('domain', record -> 'domain', 'industry', record -> 'industry',
                'owner_rep_id', owner_id, 'team_id', team_id)
            when 'contact' then jsonb_build_object('account_id', account_id, 'email', record -> 'email', 'title', record -> 'title')
            when 'opportunity' then jsonb_build_object('account_id', account_id, 'stage', record -> 'stage',
                'amount', record -> 'amount', 'currency', record -> 'currency', 'close_date', record -> 'close_date',
                'owner_rep_id', owner_id, 'team_id', team_id)
        end;
    select string_agg(format('%I', f), ', '), string_agg(format('%I = excluded.%1$I', f), ', ')
    into names, sets from jsonb_object_keys(fields) f;
    -- Field names come from the list above, never from the record; values are bound.
    execute format(
        'insert into salesai.%I as t (source, external_id, %s)
         select $1, $2, %2$s from jsonb_populate_record(null::salesai.%1$I, $3)
         on conflict (source, external_id) do update set %3$s, updated_at = now()
             where t.properties is distinct from excluded.properties
         returning t.id, xmax = 0', kind, names, sets)
        into record_id, is_new using $1, record ->> 'external_id', fields;
    if record_id is null then
        return query execute format('select t.id, ''unchanged'' from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
            using $1, record ->> 'external_id';
        return;
    end if;
    if kind = 'rep' then
        delete from salesai.team_member m where m.rep_id = record_id and m.team_id is distinct from team_id;
        insert into salesai.team_member (rep_id, team_id)
            select record_id, team_id where team_id is not null on conflict do nothing;
    elsif kind = 'opportunity' then
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, h ->> 'stage', (h ->> 'entered_at')::timestamptz
            from jsonb_array_elements(coalesce(record -> 'stage_history', '[]')) h
            on conflict do nothing;
    end if;
    return query select record_id, case when is_new then 'inserted' else 'updated' end;
end
$$;
comment on function salesai.ingest_crm_record(text, text, jsonb) is 'Upserts one CRM record; use salesai.ingest_crm';

create function salesai.ingest_crm(source text, kind text, records jsonb)
returns table (external_id text, id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    record jsonb;
begin
    if kind is null or kind not in ('team', 'rep', 'account', 'contact', 'opportunity') then
        raise exception 'unknown kind of CRM record "%"', kind using
            errcode = '22023', hint = 'Use team, rep, account, contact or opportunity.';
    end if;
    if source is null or source = '' then
        raise exception 'source must not be empty' using errcode = '22023';
    end if;
    if records is null or jsonb_typeof(records) <> 'array' then
        raise exception 'records must be a JSON array' using errcode = '22023';
    end if;
    for record in select value from jsonb_array_elements(records) loop
        begin
            external_id := case when jsonb_typeof(record) = 'object' then record ->> 'external_id' end;
            if coalesce(external_id, '') = '' or coalesce(record ->> 'name', '') = '' then
                raise exception 'a record needs "external_id" and "name"' using errcode = '22023';
            end if;
            select r.id, r.outcome into id, outcome from salesai.ingest_crm_record(source, kind, record) r;
        exception
            when data_exception or integrity_constraint_violation or no_data_found then
                id := null;
                outcome := 'rejected: ' || sqlerrm;
        end;
        return next;
    end loop;
end
$$;
comment on function salesai.ingest_crm(text, text, jsonb) is
    'Upserts CRM records (kind: team, rep, account, contact, opportunity) by external_id. outcome: inserted, updated, unchanged, or "rejected: ..." for a bad record, which blocks no other. Fields: name; team: -; rep: email, team; account: domain, industry, owner; contact: account, email, title; opportunity: account, owner, stage, amount, currency, close_date, stage_history';

-- Rights follow the account's owner.
create function salesai.carry_account_owner() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update salesai.interaction set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    update salesai.chunk set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    return null;
end
$$;
comment on function salesai.carry_account_owner() is 'Carries a new owner or team of an account to its interactions and chunks';
create trigger carry_account_owner after update of owner_rep_id, team_id on salesai.account
    for each row when (old.owner_rep_id is distinct from new.owner_rep_id or old.team_id is distinct from new.team_id)
    execute function salesai.carry_account_owner();

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

-- Queue operations. The Rust pipeline calls claim_jobs, finish_job and the two ways to fail; each is one
-- short transaction, and the lease token fences off a holder whose lease was taken over.

create function salesai.enqueue(interaction_id bigint, version integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.job as j (interaction_id, version) values ($1, $2)
    on conflict on constraint job_interaction_id_kind_key do update
        set version = excluded.version, state = 'pending', attempts = 0, not_before = now(),
            lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null;
    select salesai.wake_worker();
$$;
comment on function salesai.enqueue(bigint, integer) is 'Queues the indexing of this version; a job of an older version is replaced';

-- Owner rights: pg_stat_activity hides these columns of other roles' sessions.
create function salesai.live_backends() returns table (pid integer, backend_start timestamptz, is_worker boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select a.pid, a.backend_start, a.backend_type = 'pg_salesai worker'
    from pg_stat_activity a where a.datname = current_database()
$$;
comment on function salesai.live_backends() is 'Processes connected to this database that may hold a lease';

create function salesai.claim_jobs(jobs_max integer, lease_ms integer)
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid)
language sql
set search_path = pg_catalog, pg_temp
as $$
    with due as (
        select j.id
        from salesai.job j
        where (j.state = 'pending' and j.not_before <= clock_timestamp())
           -- A dead holder's lease need not run out.
           or (j.state = 'running'
               and (j.lease_expires_at < clock_timestamp()
                    or not exists (select from salesai.live_backends() b
                                   where b.pid = j.holder_pid and b.backend_start = j.holder_started_at)))
        order by j.lane desc, j.priority desc, j.id
        limit jobs_max
        for update skip locked
    )
    update salesai.job j
    set state = 'running', lease_token = gen_random_uuid(),
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0),
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from due
    where j.id = due.id
    returning j.id, j.interaction_id, j.version, j.lease_token
$$;
comment on function salesai.claim_jobs(integer, integer) is 'Leases due jobs to this backend';

create function salesai.job_segments(interaction_id bigint, version integer)
returns table (heading text, "position" integer, turn integer, speaker text, start_char integer, end_char integer, content text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.heading(i.id), s.position, s.turn, p.name, s.start_char, s.end_char, s.content
    from salesai.interaction i
    join salesai.segment s on s.interaction_id = i.id and s.version = $2
    left join salesai.participant p on p.id = s.participant_id
    where i.id = $1
    order by s.position
$$;
comment on function salesai.job_segments(bigint, integer) is 'What a job chunks and embeds';

create function salesai.heading(interaction_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(' | ', i.kind, a.name, o.name, i.subject)
    from salesai.interaction i
    left join salesai.account a on a.id = i.account_id
    left join salesai.opportunity o on o.id = i.opportunity_id
    where i.id = $1
$$;
comment on function salesai.heading(bigint) is 'Kind, account, opportunity and subject of an interaction, in one line';

-- chunks: [{first_position, last_position, start_char, end_char, token_count, content}], embeddings: all
-- vectors end to end. Returns false when the lease was lost: then nothing is written.
create function salesai.finish_job(
    job_id bigint, lease_token uuid, chunks jsonb, embeddings real[],
    model text, model_sha256 text, dimensions integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    done salesai.job;
    set_id bigint;
begin
    delete from salesai.job j
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    returning * into done;
    if not found then
        return false;
    end if;
    set_id := salesai.active_embedding_set(model, model_sha256, dimensions);
    delete from salesai.chunk c where c.interaction_id = done.interaction_id;
    insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char,
        end_char, token_count, heading, content, content_hash, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id)
    select i.id, done.version, c.position - 1, (c.value ->> 'first_position')::integer, (c.value ->> 'last_position')::integer,
        (c.value ->> 'start_char')::integer, (c.value ->> 'end_char')::integer, (c.value ->> 'token_count')::integer,
        salesai.heading(i.id), c.value ->> 'content',
        sha256(convert_to(salesai.heading(i.id) || e'\n' || (c.value ->> 'content'), 'UTF8')), i.kind, i.occurred_at, i.account_id, i.opportunity_id,
        i.owner_rep_id, i.team_id
    from salesai.interaction i, jsonb_array_elements(chunks) with ordinality c (value, position)
    where i.id = done.interaction_id;
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($1)[c.position * $2 + 1 : (c.position + 1) * $2]::@extschema:vector@.vector
         from salesai.chunk c where c.interaction_id = $3', 'embedding_' || set_id)
        using embeddings, dimensions, done.interaction_id;
    update salesai.interaction i
    set state = 'ready', processed_version = done.version, processed_at = clock_timestamp()
    where i.id = done.interaction_id;
    return true;
end
$$;
comment on function salesai.finish_job(bigint, uuid, jsonb, real[], text, text, integer) is
    'Writes the chunks and embeddings of a leased job and removes it, all or nothing; false when the lease was lost';

-- Overload, a sidecar that is down: not the record's fault, so no attempt is consumed.
create function salesai.release_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j
    set state = 'pending', lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null,
        not_before = clock_timestamp() + make_interval(secs => retry_ms / 1000.0)
    where j.id = $1 and j.lease_token = $2
$$;
comment on function salesai.release_job(bigint, uuid, integer) is 'Gives a leased job back without consuming an attempt';

create function salesai.fail_job(job_id bigint, lease_token uuid, class text, step text, message text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    attempts_max constant integer := 5;
    failed salesai.job;
begin
    update salesai.job j
    set attempts = j.attempts + 1,
        state = case when class = 'record_temporary' and j.attempts + 1 < attempts_max then 'pending' else 'failed' end,
        not_before = clock_timestamp() + make_interval(secs => 2 ^ j.attempts),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where j.id = $1 and j.lease_token = $2
    returning * into failed;
    if not found then
        return;
    end if;
    insert into salesai.job_error (interaction_id, kind, class, step, message, attempt)
    values (failed.interaction_id, failed.kind, class, step, message, failed.attempts);
    if failed.state = 'failed' then
        update salesai.interaction i set state = 'failed' where i.id = failed.interaction_id;
    end if;
end
$$;
comment on function salesai.fail_job(bigint, uuid, text, text, text) is
    'Records a failure. record_temporary retries after 1, 2, 4 and 8 s, then fails; the others fail at once. A failed job stays visible';

create function salesai.retry_errors() returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
    with retried as (
        update salesai.job j set state = 'pending', attempts = 0, not_before = now()
        where j.state = 'failed' returning j.interaction_id),
    pending as (
        update salesai.interaction i set state = 'pending' from retried r where i.id = r.interaction_id returning i.id),
    woken as materialized (select salesai.wake_worker())
    select count(*) from pending, woken
$$;
comment on function salesai.retry_errors() is 'Queues all failed jobs again; returns how many';

create function salesai.process(max_jobs integer default 100, timeout_ms integer default null) returns integer
language c volatile parallel unsafe as 'MODULE_PATHNAME', 'process_wrapper';
comment on function salesai.process(integer, integer) is
    'Drains up to max_jobs jobs in this session, for servers without the background worker; returns how many were finished. Holds this statement''s transaction while the model runs';

-- Hybrid search: a dense and a lexical leg with the same filters and row-level security, fused by rank.

create function salesai.lexical_query(query text) returns tsquery
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Any word may match; ranking sorts out how many did. Built from lexemes, so no text is a syntax error.
    select coalesce(string_agg(quote_literal(lexeme), ' | '), '')::tsquery
    from unnest(tsvector_to_array(to_tsvector('pg_catalog.english', query))) lexeme
$$;
comment on function salesai.lexical_query(text) is 'tsquery that matches any word of a text; never a syntax error';

create function salesai.search(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60)
returns table (chunk_id bigint, interaction_id bigint, occurred_at timestamptz, speaker text, start_ms bigint,
    end_ms bigint, content text, dense_rank bigint, lexical_rank bigint, score double precision)
language plpgsql stable parallel restricted cost 200000 rows 10
set search_path = pg_catalog, pg_temp
-- The index goes on until enough rows pass the filters and row-level security.
set hnsw.iterative_scan = 'strict_order'
set hnsw.max_scan_tuples = 2147483647
as $$
declare
    filters constant text := '
        ($1 is null or c.account_id = $1) and ($2 is null or c.opportunity_id = $2)
        and ($3 is null or c.kind = any ($3)) and ($4 is null or c.occurred_at >= $4)
        and ($5 is null or c.occurred_at < $5)
        and ($6 is null or exists (
            select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position and p.side = $6))';
    -- Deeper than k, so that a row which only one leg ranks high is still fused.
    depth constant integer := greatest(4 * k, 50);
    account_id bigint;
    opportunity_id bigint;
    set_id bigint;
    dense_leg text := 'select null::bigint as chunk_id, null::bigint as rank where false';
    lexical_leg text := dense_leg;
    embedding real[];
begin
    if query is null or query !~ '\S' then
        raise exception 'query must not be empty' using errcode = '22023';
    end if;
    if k is null or k not between 1 and 1000 then
        raise exception 'k must be between 1 and 1000' using errcode = '22023';
    end if;
    if mode is null or mode not in ('hybrid', 'dense', 'lexical') then
        raise exception 'unknown mode "%"', mode using errcode = '22023', hint = 'Use hybrid, dense or lexical.';
    end if;
    if alpha is null or alpha not between 0 and 1 or rrf_k is null or rrf_k < 1 then
        raise exception 'alpha must be between 0 and 1, rrf_k at least 1' using errcode = '22023';
    end if;
    if speaker_side not in ('internal', 'external', 'unknown') then
        raise exception 'unknown speaker side "%"', speaker_side using
            errcode = '22023', hint = 'Use internal, external or unknown.';
    end if;
    account_id := salesai.resolve_account(account);
    opportunity_id := salesai.resolve_opportunity(opportunity);

    if mode <> 'lexical' then
        select s.id into set_id from salesai.embedding_set s where s.state = 'active';
    end if;
    if set_id is not null then
        select v into embedding from salesai.embedding_values(array[query]) v;
        dense_leg := format('
            select n.chunk_id, row_number() over (order by n.distance, n.chunk_id) as rank
            from (select c.id as chunk_id, v.embedding operator(@extschema:vector@.<=>) $7::@extschema:vector@.vector as distance
                  from salesai.%I v join salesai.chunk c on c.id = v.chunk_id
                  where %s
                  order by v.embedding operator(@extschema:vector@.<=>) $7::@extschema:vector@.vector
                  limit $9) n', 'embedding_' || set_id, filters);
    end if;
    if mode <> 'dense' then
        lexical_leg := format('
            select n.chunk_id, row_number() over (order by n.rank desc, n.chunk_id) as rank
            from (select c.id as chunk_id, ts_rank_cd(c.lexemes, $8, 1) as rank
                  from salesai.chunk c
                  where c.lexemes @@ $8 and %s
                  order by rank desc, c.id
                  limit $9) n', filters);
    end if;
    return query execute format('
        with dense as (%s), lexical as (%s),
        fused as (
            select coalesce(d.chunk_id, l.chunk_id) as chunk_id, d.rank as dense_rank, l.rank as lexical_rank,
                   coalesce($10 / ($11 + d.rank), 0) + coalesce((1 - $10) / ($11 + l.rank), 0) as score
            from dense d full join lexical l on l.chunk_id = d.chunk_id
            order by score desc, 1
            limit $12)
        select c.id, c.interaction_id, c.occurred_at, who.speaker, who.start_ms, who.end_ms, c.content,
               f.dense_rank, f.lexical_rank, f.score
        from fused f
        join salesai.chunk c on c.id = f.chunk_id
        left join lateral (
            select case when count(distinct s.participant_id) = 1 then min(p.name) end as speaker,
                   min(s.start_ms) as start_ms, max(s.end_ms) as end_ms
            from salesai.segment s left join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position) who on true
        order by f.score desc, c.id', dense_leg, lexical_leg)
        using account_id, opportunity_id, kinds, since, until, speaker_side, embedding,
              salesai.lexical_query(query), depth, alpha::double precision, rrf_k, k;
end
$$;
comment on function salesai.search(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer) is
    'Chunks that fit a query, best first. Filters and row-level security bind both legs before fusion; k rows come back whenever k qualify. speaker is set when one person says all of the chunk. dense_rank and lexical_rank are NULL where that leg did not rank the row. mode: hybrid, dense, lexical (needs no sidecar); alpha: weight of the dense leg; score: alpha/(rrf_k + dense_rank) + (1 - alpha)/(rrf_k + lexical_rank)';

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

-- insight(): search, one model call, citations checked against the stored text, answer kept.

create type salesai.insight_citation as (
    number integer, claim text, interaction_id bigint, segment_id bigint, speaker text,
    start_ms bigint, end_ms bigint, start_char integer, end_char integer, quote text, similarity real);

create type salesai.insight_result as (
    answer text, citations salesai.insight_citation[], confidence real, method text, abstained boolean,
    reason text, model text, adapter text, prompt_tokens integer, completion_tokens integer,
    elapsed_ms integer, insight_id bigint);
comment on type salesai.insight_result is 'method: generated (the model wrote it), extractive (sentences of the evidence) or abstained, then reason says why: no_match, unsupported';

create function salesai.answer_question(question text, evidence jsonb, options jsonb) returns jsonb
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'answer_question_wrapper';
comment on function salesai.answer_question(text, jsonb, jsonb) is
    'Answers a question from given evidence by one model call and checks each claim against it; used by salesai.insight';

create function salesai.evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', u.number, 'interaction_id', c.interaction_id, 'title', c.heading,
        'occurred_on', to_char(c.occurred_at at time zone 'UTC', 'YYYY-MM-DD'), 'segments', said.segments) order by u.number), '[]')
    from unnest(chunk_ids) with ordinality u (chunk_id, number)
    join salesai.chunk c on c.id = u.chunk_id
    cross join lateral (
        select jsonb_agg(jsonb_build_object('segment_id', s.id, 'speaker', p.name, 'start_ms', s.start_ms,
            'end_ms', s.end_ms, 'start_char', s.start_char, 'end_char', s.end_char, 'content', s.content) order by s.position) as segments
        from salesai.segment s left join salesai.participant p on p.id = s.participant_id
        where s.interaction_id = c.interaction_id and s.version = c.version
          and s.position between c.first_position and c.last_position
          -- A long paragraph has several chunks: only what overlaps this one.
          and s.start_char < c.end_char and s.end_char > c.start_char) said
$$;
comment on function salesai.evidence(bigint[]) is 'Numbered evidence for a prompt: the segments of chunks, as the caller may see them';

create function salesai.insight(
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

-- Conversation metrics: deterministic SQL over segments, no model. Each formula stands in the view's comment.

create function salesai.word_count(content text) returns integer
language sql immutable strict parallel safe
as $$ select pg_catalog.regexp_count(content, '[[:alnum:]]+([''’.-][[:alnum:]]+)*') $$;
comment on function salesai.word_count(text) is 'Words of a text: runs of letters and digits, inner apostrophes, points and hyphens included';

create function salesai.is_backchannel(content text) returns boolean
language sql immutable strict parallel safe
as $$
    select salesai.word_count(content) <= 5
       and 2 * pg_catalog.regexp_count(pg_catalog.lower(content),
           '\m(mm-?hm+|mhm+|mm+|uh-?huh|hm+|yeah|yep|yes|right|ok|okay|sure|exactly|absolutely|totally|cool|great|nice|wow|oh|ah|gotcha|got it|i see|true|indeed|agreed)\M')
           >= salesai.word_count(content)
$$;
comment on function salesai.is_backchannel(text) is 'True for acknowledgements ("Mm-hm.", "Yeah, right."): at most 5 words, at least half of them acknowledging';

create function salesai.filler_count(content text) returns integer
language sql immutable strict parallel safe
as $$ select pg_catalog.regexp_count(pg_catalog.lower(content), '\m(um+|uh+|erm*|you know|i mean|sort of|kind of|basically)\M') $$;
comment on function salesai.filler_count(text) is 'Filler words: um, uh, er, erm, you know, i mean, sort of, kind of, basically';

create view salesai.call_metrics with (security_invoker) as
select i.id as interaction_id, i.account_id, i.opportunity_id, i.owner_rep_id, i.occurred_at, i.subject,
    round(m.call_ms / 1000.0, 1) as duration_s,
    m.speaker_count,
    m.turn_count,
    round(m.internal_ms / nullif(m.internal_ms + m.external_ms, 0), 3) as talk_share_of_speech,
    round(m.internal_ms / nullif(m.call_ms, 0), 3) as talk_share_of_call,
    round(1 - m.covered_ms / nullif(m.call_ms, 0), 3) as silence_share,
    round(m.longest_silence_ms / 1000.0, 1) as longest_silence_s,
    round(m.longest_monologue_ms / 1000.0, 1) as longest_monologue_s,
    round(m.longest_customer_story_ms / 1000.0, 1) as longest_customer_story_s,
    round(m.switch_count * 60000 / nullif(m.call_ms, 0), 2) as switches_per_min,
    round((m.patience_median_ms / 1000.0)::numeric, 2) as patience_median_s,
    round((m.patience_p90_ms / 1000.0)::numeric, 2) as patience_p90_s,
    m.question_count,
    round(m.question_count * 1800000 / nullif(m.call_ms, 0), 1) as questions_per_30_min,
    round(m.overtalk_ms / 1000.0, 1) as overtalk_s,
    m.overtalk_count,
    round(m.internal_words * 60000 / nullif(m.internal_ms, 0), 0) as words_per_minute,
    m.filler_words
from salesai.interaction i
cross join lateral (
    with said as (
        select s.position, s.turn, s.participant_id, coalesce(p.side, 'unknown') as side,
            s.start_ms, s.end_ms, s.content, salesai.is_backchannel(s.content) as is_backchannel,
            max(s.end_ms) over (order by s.start_ms, s.position rows between unbounded preceding and 1 preceding) as covered_until
        from salesai.segment s
        left join salesai.participant p on p.id = s.participant_id
        where s.interaction_id = i.id and s.version = i.version and s.start_ms is not null and s.end_ms is not null
    ), spoken as (
        select *, lag(participant_id) over w as previous_id, lag(side) over w as previous_side, lag(end_ms) over w as previous_end_ms
        from said where not is_backchannel
        window w as (order by start_ms, position)
    ), numbered as (
        select *, count(*) filter (where previous_end_ms is null or participant_id is distinct from previous_id
                                   or start_ms - previous_end_ms > 10000) over (order by start_ms, position) as run
        from spoken
    ), runs as (
        select side, max(end_ms) - min(start_ms) as run_ms from numbered group by run, side
    ), speech as (
        select (max(end_ms) - min(start_ms))::numeric as call_ms,
            count(distinct participant_id) as speaker_count,
            count(distinct turn) as turn_count,
            sum(end_ms - start_ms) filter (where side = 'internal') as internal_ms,
            sum(end_ms - start_ms) filter (where side = 'external') as external_ms,
            sum(greatest(end_ms - greatest(start_ms, coalesce(covered_until, start_ms)), 0)) as covered_ms,
            greatest(max(start_ms - covered_until), 0) as longest_silence_ms,
            sum(regexp_count(content, '\?')) filter (where side = 'internal') as question_count,
            sum(salesai.word_count(content)) filter (where side = 'internal')::numeric as internal_words,
            sum(salesai.filler_count(content)) filter (where side = 'internal') as filler_words
        from said
    ), exchanges as (
        select count(*) filter (where participant_id is distinct from previous_id and previous_end_ms is not null)::numeric as switch_count,
            percentile_cont(0.5) within group (order by greatest(start_ms - previous_end_ms, 0))
                filter (where side = 'internal' and previous_side = 'external') as patience_median_ms,
            percentile_cont(0.9) within group (order by greatest(start_ms - previous_end_ms, 0))
                filter (where side = 'internal' and previous_side = 'external') as patience_p90_ms,
            coalesce(sum(least(end_ms, previous_end_ms) - start_ms) filter (where participant_id is distinct from previous_id and start_ms < previous_end_ms), 0) as overtalk_ms,
            count(*) filter (where participant_id is distinct from previous_id and start_ms < previous_end_ms) as overtalk_count
        from spoken
    ), longest as (
        select max(run_ms) filter (where side = 'internal') as longest_monologue_ms,
            max(run_ms) filter (where side = 'external') as longest_customer_story_ms
        from runs
    )
    select * from speech, exchanges, longest
) m
where i.kind in ('call', 'meeting') and m.call_ms is not null;
comment on view salesai.call_metrics is
'One row per call with times. Internal = our side. Speech = sum of utterance lengths; call = first start to last end.
talk_share_of_speech: internal speech / (internal + external speech). talk_share_of_call: internal speech / call.
silence_share: part of the call that no utterance covers; longest_silence_s: its longest stretch.
longest_monologue_s, longest_customer_story_s: longest run of one speaker of the internal, external side; runs go on across back-channels of others (salesai.is_backchannel) and end at another speaker or a gap above 10 s.
switches_per_min: changes of speaker, back-channels ignored, per minute of call.
patience: gap from the end of an external utterance to the internal one that follows (0 when they overlap), back-channels ignored; median and 90th percentile.
question_count: question marks of the internal side. overtalk: time and number of utterances that begin before the one of another speaker has ended, back-channels ignored.
words_per_minute, filler_words: of the internal side, by salesai.word_count and salesai.filler_count.
Measures that need a side are NULL when nobody of that side is known.';

-- What an operator looks at.

create view salesai.queue_status with (security_invoker) as
with rate as (
    select count(*) / 300.0 as per_second from salesai.interaction i where i.processed_at > now() - interval '5 minutes'
)
select count(*) filter (where j.state = 'pending') as pending,
    count(*) filter (where j.state = 'running') as running,
    count(*) filter (where j.state = 'failed') as failed,
    min(j.created_at) filter (where j.state <> 'failed') as oldest_created_at,
    coalesce(extract(epoch from clock_timestamp() - min(j.created_at) filter (where j.state <> 'failed')), 0)::numeric(12, 3) as lag_s,
    (count(*) filter (where j.state <> 'failed') / nullif((select per_second from rate), 0))::numeric(12, 1) as eta_s
from salesai.job j;
comment on view salesai.queue_status is
    'Exact counts of the jobs that the caller may see. lag_s: age of the oldest job that is not done; eta_s: from the rate of the last 5 minutes, NULL when nothing was finished in them';

create view salesai.pipeline_errors with (security_invoker) as
select e.occurred_at, e.interaction_id, i.source, i.external_id, e.kind, e.class, e.step, e.message, e.attempt, j.state as job_state
from salesai.job_error e
join salesai.interaction i on i.id = e.interaction_id
left join salesai.job j on j.interaction_id = e.interaction_id and j.kind = e.kind;
comment on view salesai.pipeline_errors is 'Failures of jobs, newest and old; job_state failed: waits for salesai.retry_errors(); NULL: done since';

create view salesai.sidecar_status with (security_invoker) as
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

create function salesai.doctor() returns table (piece text, ok boolean, state text, remedy text)
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

-- Row-level security, forced on every table with customer data. Rows that carry owner and team are
-- visible by scope; all others follow the row they belong to.

do $do$
declare
    item record;
begin
    for item in
        select * from (values
            ('account', null), ('opportunity', null), ('interaction', null), ('chunk', null),
            ('contact', 'account a where a.id = account_id'),
            ('opportunity_stage_history', 'opportunity o where o.id = opportunity_id'),
            ('raw_payload', 'interaction i where i.id = interaction_id'),
            ('data_key', 'interaction i where i.id = interaction_id'),
            ('participant', 'interaction i where i.id = interaction_id'),
            ('segment', 'interaction i where i.id = interaction_id'),
            ('job', 'interaction i where i.id = interaction_id'),
            ('job_error', 'interaction i where i.id = interaction_id'),
            ('citation', 'insight i where i.id = insight_id')) t (table_name, belongs_to)
    loop
        execute pg_catalog.format('alter table salesai.%I enable row level security, force row level security', item.table_name);
        execute pg_catalog.format(
            'create policy visible on salesai.%I using (%2$s) with check ((%2$s) and %3$s)', item.table_name,
            case when item.belongs_to is not null
                then 'exists (select from salesai.' || item.belongs_to || ')'
                else '(select salesai.reads_all())
                      or owner_rep_id = (select salesai.reader_rep_id())
                      or team_id = any ((select salesai.reader_team_ids())::bigint[])' end,
            -- Answers are kept for readers too.
            case when item.table_name = 'citation' then 'true' else '(select salesai.writes())' end);
    end loop;
end
$do$;

alter table salesai.insight enable row level security, force row level security;
create policy own on salesai.insight
    using (created_by = salesai.current_role_name() or (select salesai.reads_all() and salesai.writes()))
    with check (created_by = salesai.current_role_name());

-- Rights of the roles. What a row-level policy then leaves visible depends on salesai.principal.

revoke all on all functions in schema salesai from public;
revoke all on all tables in schema salesai from public;
grant usage on schema salesai to
    salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant execute on all functions in schema salesai to
    salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.create_embedding_set(text, text, integer), salesai.activate_embedding_set(bigint)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
-- Everybody may use an adapter, which loads it; only an administrator decides which there are.
revoke execute on function
    salesai.register_model(text, text, text, text, integer, integer), salesai.register_models(), salesai.base_model(text),
    salesai.begin_adapter(text, jsonb, text, text, text, jsonb), salesai.add_adapter_part(bigint, integer, bytea),
    salesai.inspect_adapter(bigint), salesai.finish_adapter(bigint, boolean),
    salesai.register_adapter(text, bytea, jsonb, text, text, text, boolean, jsonb),
    salesai.activate_adapter(text, bigint), salesai.retire_adapter(text), salesai.remove_adapter(bigint),
    salesai.unload_adapter(text, integer), salesai.lock_adapter(text)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;

-- Readers: everything but originals and their keys; answers are kept for everyone who asks.
grant select on
    salesai.team, salesai.rep, salesai.team_member, salesai.principal, salesai.account, salesai.contact,
    salesai.opportunity, salesai.opportunity_stage_history, salesai.interaction, salesai.participant,
    salesai.segment, salesai.chunk, salesai.embedding_set, salesai.job, salesai.job_error, salesai.insight,
    salesai.citation, salesai.call_metrics, salesai.queue_status, salesai.pipeline_errors, salesai.sidecar_status,
    salesai.model, salesai.adapter, salesai.models, salesai.adapters
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert on salesai.insight, salesai.citation
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;

-- Writers: ingestion of interactions, and originals of what they can see.
grant select, insert on salesai.raw_payload, salesai.data_key
    to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;
grant insert, update on salesai.interaction, salesai.participant, salesai.segment, salesai.job
    to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;

-- CRM data comes from the gateway and from administrators.
grant insert, update on salesai.team, salesai.rep, salesai.account, salesai.contact, salesai.opportunity,
    salesai.opportunity_stage_history, salesai.chunk to salesai_admin, salesai_gateway;
grant insert, update, delete on salesai.team_member to salesai_admin, salesai_gateway;
grant insert, update, delete on salesai.principal to salesai_admin;

grant select, insert, update, delete on salesai.job, salesai.chunk to salesai_worker;
grant select, insert on salesai.job_error to salesai_worker;
grant update on salesai.interaction to salesai_worker;

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

