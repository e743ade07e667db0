\echo Use "alter extension pg_salesai update to '0.3.0'" to load this file. \quit

-- Why: personal data is taken out of what search and models read, by policy, and documents are read. What was
-- stored before stays as it is until salesai.apply_redaction() is called. The queue takes sources in turn and counts
-- at constant cost; embedding sets can be changed while the old one serves; an edit embeds only what it changed.

alter table salesai.interaction add column redacted_kinds text[];
comment on column salesai.interaction.redacted_kinds is 'Kinds of personal data that were looked for in the present version; NULL before 0.3.0';

alter table salesai.raw_payload add column text_ciphertext bytea;
alter table salesai.raw_payload alter column text_ciphertext set storage external;
comment on column salesai.raw_payload.text_ciphertext is
    'Documents: the text that was read from it, as Markdown, deflated and encrypted; segment offsets count its characters. NULL until it is read';

comment on column salesai.interaction.language is 'ISO 639 code, found in the text; NULL when it is too short to tell';

alter table salesai.segment add column redactions integer[], add column sealed bytea,
    add column part text not null default 'body' check (part in ('body', 'quoted', 'signature'));
comment on column salesai.segment.part is 'E-mails: body is new text, which is indexed; quoted repeats an earlier mail; signature says who wrote it';
alter table salesai.segment alter column sealed set storage external;
comment on column salesai.segment.content is 'What was said, personal data replaced as salesai.redaction_policy has it: what search and models read';
comment on column salesai.segment.redactions is
    'Where content differs from what was said, in characters: start and end there, start and end in content, for each place; NULL where it does not';
comment on column salesai.segment.sealed is 'What was said, where content differs: deflated, then encrypted under the data key (salesai.original_segment)';

-- Redaction: which kinds of personal data are taken out of what search and models read, by source, and which a
-- role does not see in originals either. The rules are in domain/src/redaction/.

create function salesai.pii_kinds() returns text[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'pii_kinds_wrapper';
comment on function salesai.pii_kinds() is 'Kinds of personal data that the rules tell apart';

create table salesai.redaction_policy (
    id bigint generated always as identity primary key,
    source text,
    role_name text,
    kinds text[] not null,
    unique nulls not distinct (source, role_name),
    check (source is null or role_name is null),
    check (kinds <@ salesai.pii_kinds())
);
comment on table salesai.redaction_policy is
    'With a source: the kinds taken out of what arrives from it; with neither: of all other sources; without such a row, all kinds but names, since who said what is what a sales team asks for. With a role: the kinds that it and its members do not see in originals either. salesai.apply_redaction() brings what is stored in line with a change';

-- CRM objects that the source deleted.

alter table salesai.team add column deleted_at timestamptz;
alter table salesai.rep add column deleted_at timestamptz;
alter table salesai.account add column deleted_at timestamptz;
alter table salesai.contact add column deleted_at timestamptz;
alter table salesai.opportunity add column deleted_at timestamptz;

-- Names, stems and languages.

alter table salesai.account add column name_key text generated always as (pg_catalog.lower(name)) stored;
alter table salesai.contact add column name_key text generated always as (pg_catalog.lower(name)) stored;
alter table salesai.opportunity add column name_key text generated always as (pg_catalog.lower(name)) stored;
drop index salesai.account_name_index, salesai.contact_name_index;
create index account_name_index on salesai.account (name_key);
create index contact_name_index on salesai.contact (name_key);
create index opportunity_name_index on salesai.opportunity (name_key);

alter table salesai.interaction add column message_id text generated always as (properties ->> 'message_id') stored;
create index interaction_message_index on salesai.interaction (message_id) where message_id is not null;
comment on column salesai.interaction.message_id is 'E-mails: their Message-ID';

create table salesai.product (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    code text,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    name_key text generated always as (pg_catalog.lower(name)) stored,
    unique (source, external_id)
);
create index product_name_index on salesai.product (name_key);
comment on table salesai.product is 'What is sold; a catalogue whose names and codes every reader may see';

comment on table salesai.opportunity_stage_history is
    'What a source said of a deal''s stage, and of when, by its own name or id; salesai.opportunity_stages makes stays of it';

create table salesai.stage (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    pipeline text,
    position integer,
    probability real,
    is_closed boolean,
    is_won boolean,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    unique (source, external_id)
);
comment on table salesai.stage is 'Stages of deals: external_id is what deals of the source have, name what people call it; probability, from 0 to 1, that a deal in it is won';

-- How a text of a language (ISO 639-1) is stemmed; English where it is not known.
create function salesai.text_configuration(language text) returns regconfig
language sql immutable parallel safe
as $$
    select case $1
        when 'ar' then 'pg_catalog.arabic' when 'ca' then 'pg_catalog.catalan' when 'da' then 'pg_catalog.danish'
        when 'de' then 'pg_catalog.german' when 'el' then 'pg_catalog.greek' when 'es' then 'pg_catalog.spanish'
        when 'eu' then 'pg_catalog.basque' when 'fi' then 'pg_catalog.finnish' when 'fr' then 'pg_catalog.french'
        when 'ga' then 'pg_catalog.irish' when 'hi' then 'pg_catalog.hindi' when 'hu' then 'pg_catalog.hungarian'
        when 'hy' then 'pg_catalog.armenian' when 'id' then 'pg_catalog.indonesian' when 'it' then 'pg_catalog.italian'
        when 'lt' then 'pg_catalog.lithuanian' when 'ne' then 'pg_catalog.nepali' when 'nl' then 'pg_catalog.dutch'
        when 'nb' then 'pg_catalog.norwegian' when 'no' then 'pg_catalog.norwegian' when 'pt' then 'pg_catalog.portuguese'
        when 'ro' then 'pg_catalog.romanian' when 'ru' then 'pg_catalog.russian' when 'sr' then 'pg_catalog.serbian'
        when 'sv' then 'pg_catalog.swedish' when 'ta' then 'pg_catalog.tamil' when 'tr' then 'pg_catalog.turkish'
        when 'yi' then 'pg_catalog.yiddish' when 'en' then 'pg_catalog.english'
        else case when $1 is null then 'pg_catalog.english' else 'pg_catalog.simple' end
    end::regconfig
$$;
comment on function salesai.text_configuration(text) is 'Text search configuration of a language; simple (no stems) where PostgreSQL has none';

-- Calls write each turn as "Name: what was said".
create function salesai.speaker_labels(kind text, content text) returns text
language sql immutable parallel safe
as $$
    select pg_catalog.string_agg(distinct m[1], ' ')
    from pg_catalog.regexp_matches(case when $1 in ('call', 'meeting') then $2 end, '^([^:\n]{1,80}): ', 'gn') m
$$;
comment on function salesai.speaker_labels(text, text) is 'Names of the speakers in the content of a chunk';

alter table salesai.chunk add column language text;
update salesai.chunk c set language = i.language from salesai.interaction i where i.id = c.interaction_id and i.language is not null;
alter table salesai.chunk drop column lexemes;
alter table salesai.chunk add column lexemes tsvector generated always as (
        pg_catalog.setweight(pg_catalog.to_tsvector(salesai.text_configuration(language), heading), 'B')
        || pg_catalog.setweight(pg_catalog.to_tsvector(
            salesai.text_configuration(language), coalesce(salesai.speaker_labels(kind, content), '')), 'C')
        || pg_catalog.setweight(pg_catalog.to_tsvector(salesai.text_configuration(language), content), 'A')) stored;
drop index salesai.chunk_account_index;
-- All that filters and row-level security mostly ask for is in these, because the rows themselves are wide: search asks
-- for hundreds by their ids, and for thousands of an account, a rep or a time.
create index chunk_admission_index on salesai.chunk (id)
    include (interaction_id, position, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id, language);
create index chunk_account_index on salesai.chunk (account_id, occurred_at) include (id, kind, opportunity_id, owner_rep_id, team_id, language);
create index chunk_owner_index on salesai.chunk (owner_rep_id) include (id, kind, occurred_at, account_id, opportunity_id, team_id, language);
create index chunk_team_index on salesai.chunk (team_id) include (id, kind, occurred_at, account_id, opportunity_id, owner_rep_id, language);
create index chunk_occurred_index on salesai.chunk (occurred_at) include (id, kind, account_id, opportunity_id, owner_rep_id, team_id, language);
comment on column salesai.chunk.language is 'ISO 639-1 code of the interaction''s language; NULL when it is not known';
comment on column salesai.chunk.lexemes is 'Stems, for the lexical index: of the content with weight A, of the heading B, of speakers'' names C';

-- The lexical index: posting lists in segments that never change, and the chunks that are in none yet. Workers make
-- segments of those, and few segments of many. Rows are derived from salesai.chunk alone: a restore makes them anew.

create table salesai.lexical_index (
    only_row boolean primary key default true check (only_row),
    heading_boost real not null default 1 check (heading_boost between 0 and 20),
    speaker_boost real not null default 1 check (speaker_boost between 0 and 20)
);
comment on table salesai.lexical_index is
    'What a word counts in a heading (kind, account, opportunity, subject, section) and in a speaker''s name, where one in the content counts 1; changed by salesai.rebuild_lexical_index';
insert into salesai.lexical_index default values;

create table salesai.lexical_segment (
    id bigint generated always as identity primary key,
    chunk_count bigint not null,
    -- Sum of their lengths in words.
    length bigint not null,
    first_chunk_id bigint not null,
    last_chunk_id bigint not null,
    created_at timestamptz not null default now()
);
comment on table salesai.lexical_segment is 'A part of the lexical index: the posting lists of some chunks';

create table salesai.posting_list (
    segment_id bigint not null,
    term text collate "C" not null,
    chunk_count integer not null,
    directory bytea not null,
    postings bytea not null,
    primary key (segment_id, term)
);
-- So that a part of a list can be read alone.
alter table salesai.posting_list alter column directory set storage external, alter column postings set storage external;
comment on table salesai.posting_list is
    'Which chunks of a segment have a term, how often, and how long they are (domain/src/lexical/posting_list.rs); directory: what each block of 128 of them holds at most';

create table salesai.lexical_delta (chunk_id bigint primary key);
comment on table salesai.lexical_delta is 'Chunks that are in no segment yet; search reads each of them';

create table salesai.lexical_language (configuration text primary key);
comment on table salesai.lexical_language is 'Text search configurations that chunks are stemmed by, and so queries too';

-- Owner rights: whoever writes chunks has them indexed.
create function salesai.note_new_chunks() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into salesai.lexical_delta (chunk_id) select n.id from new_chunks n on conflict do nothing;
    insert into salesai.lexical_language (configuration)
    select distinct salesai.text_configuration(n.language)::text from new_chunks n
    where not exists (
        select from salesai.lexical_language l where l.configuration = salesai.text_configuration(n.language)::text)
    on conflict do nothing;
    return null;
end
$$;
comment on function salesai.note_new_chunks() is 'Trigger: queues new chunks for the lexical index';

create trigger note_new_chunks after insert on salesai.chunk
    referencing new table as new_chunks for each statement execute function salesai.note_new_chunks();

-- One step; false when there is nothing to do, or somebody else is at it.
create function salesai.merge_lexical_delta(chunks_min integer default 256) returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_lexical_delta_wrapper';
comment on function salesai.merge_lexical_delta(integer) is
    'Makes a segment of up to 4,096 chunks that are in none, if there are at least so many; false when there are not';

create function salesai.merge_lexical_segments() returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_lexical_segments_wrapper';
comment on function salesai.merge_lexical_segments() is
    'Makes one segment of several of about the same size, without chunks that are gone; false when there are too few of any size';

create function salesai.empty_lexical_index() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    chunks bigint;
begin
    delete from salesai.posting_list;
    delete from salesai.lexical_segment;
    insert into salesai.lexical_delta (chunk_id) select c.id from salesai.chunk c on conflict do nothing;
    get diagnostics chunks = row_count;
    perform salesai.wake_worker();
    return chunks;
end
$$;
comment on function salesai.empty_lexical_index() is
    'Empties the lexical index, whose row the caller has locked, and queues all chunks for it; returns how many were not queued yet';

create function salesai.rebuild_lexical_index(heading_boost real default null, speaker_boost real default null) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the lexical index can be rebuilt at isolation level read committed only' using errcode = '25001',
            hint = 'Segments that were made while this waited for its lock have to be seen.';
    end if;
    -- Nobody merges until this commits.
    perform from salesai.lexical_index for update;
    update salesai.lexical_index i
    set heading_boost = coalesce($1, i.heading_boost), speaker_boost = coalesce($2, i.speaker_boost);
    return salesai.empty_lexical_index();
end
$$;
comment on function salesai.rebuild_lexical_index(real, real) is
    'Makes the lexical index anew, with other boosts or after damage. Search is right meanwhile, and slower. Returns how many chunks';

create function salesai.restore_boosts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nobody merges until this commits.
    perform from salesai.lexical_index for update;
    update salesai.lexical_index i set heading_boost = new.heading_boost, speaker_boost = new.speaker_boost;
    if not found then
        return new;
    end if;
    perform salesai.empty_lexical_index();
    return null;
end
$$;
comment on function salesai.restore_boosts() is 'Trigger: takes the boosts of a dump, whose row this table has already';

create trigger restore_boosts before insert on salesai.lexical_index
    for each row execute function salesai.restore_boosts();
alter table salesai.lexical_index enable always trigger restore_boosts;

insert into salesai.lexical_delta (chunk_id) select c.id from salesai.chunk c;
insert into salesai.lexical_language (configuration)
select distinct salesai.text_configuration(c.language)::text from salesai.chunk c;

-- The queue.

alter table salesai.job
    alter column interaction_id drop not null,
    drop constraint job_kind_check, add constraint job_kind_check check (kind in ('index', 'embed', 'build_index')),
    drop constraint job_lane_check, add constraint job_lane_check check (lane in ('interactive', 'background', 'maintenance')),
    add column source text not null default '',
    add column embedding_set_id bigint references salesai.embedding_set on delete cascade,
    add column first_chunk_id bigint,
    add column last_chunk_id bigint,
    add column losses integer not null default 0,
    add column backfill_id bigint,
    add constraint job_check check ((kind = 'index') = (interaction_id is not null)),
    add constraint job_check1 check ((kind = 'index') = (embedding_set_id is null)),
    add constraint job_check2 check ((kind = 'embed') = (first_chunk_id is not null and last_chunk_id is not null));
update salesai.job j set source = i.source from salesai.interaction i where i.id = j.interaction_id;
drop index salesai.job_claim_index;
create index job_due_index on salesai.job (lane, priority, source, not_before, id) where state = 'pending';
create index job_running_index on salesai.job (lease_expires_at) where state = 'running';
create index job_oldest_index on salesai.job (source, created_at) where state <> 'failed';
create index job_embedding_set_index on salesai.job (embedding_set_id) where embedding_set_id is not null;
create index job_backfill_index on salesai.job (backfill_id) where backfill_id is not null;
comment on table salesai.job is
    'Work that waits for a model. index: an interaction''s chunks and embeddings; embed: a range of chunks for an embedding set that is built; build_index: that set''s index. A finished job is deleted; a failed one stays and can be retried';
comment on column salesai.job.source is 'The interaction''s source; sources take turns. Empty for work on embedding sets';
comment on column salesai.job.losses is 'How often its holder died or lost its lease, or the sidecar died or was too slow; since then it is worked on alone, and fails in the end';
comment on column salesai.job.backfill_id is 'The call of salesai.backfill that queued it';
comment on column salesai.job.lane is 'interactive: what arrives one by one; background: bulk loads and embedding sets, when no interactive job is due; maintenance: builds of indexes, which have a worker of their own';

alter table salesai.job_error alter column interaction_id drop not null, add column job_id bigint;
update salesai.job_error e set job_id = j.id
from salesai.job j where j.interaction_id = e.interaction_id and j.kind = e.kind;
create index job_error_job_index on salesai.job_error (job_id);
comment on table salesai.job_error is
    'Every failure of a job with its class; never holds customer text. record: the interaction''s own fault, which uses up attempts; pipeline: everybody''s, which does not; temporary: tried again by itself; permanent: somebody has to do something';

create table salesai.job_count (
    source text not null,
    lane text not null,
    state text not null,
    delta bigint not null
);
comment on table salesai.job_count is
    'Changes of the number of jobs: the sum is the number, exact in every snapshot. Added by each statement, added up now and then';

create table salesai.queue_pause (
    source text primary key,
    paused_at timestamptz not null default now(),
    paused_by text not null default session_user
);
comment on table salesai.queue_pause is 'Sources whose jobs are not started; the empty one stands for all (salesai.pause, salesai.resume)';

create table salesai.backfill (
    id bigint generated always as identity primary key,
    source text,
    since timestamptz,
    until timestamptz,
    everything boolean not null,
    queued bigint not null,
    started_at timestamptz not null default now(),
    started_by text not null default session_user
);
comment on table salesai.backfill is 'Calls of salesai.backfill that queued something; salesai.backfills shows how far they are';

-- Owner rights: whoever queues work counts it.
create function salesai.count_jobs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        lock table salesai.job_count in share row exclusive mode;
        delete from salesai.job_count;
    elsif tg_op = 'INSERT' then
        insert into salesai.job_count (source, lane, state, delta)
        select n.source, n.lane, n.state, count(*) from new_jobs n group by 1, 2, 3;
    elsif tg_op = 'DELETE' then
        insert into salesai.job_count (source, lane, state, delta)
        select o.source, o.lane, o.state, -count(*) from old_jobs o group by 1, 2, 3;
    else
        insert into salesai.job_count (source, lane, state, delta)
        select c.source, c.lane, c.state, sum(c.delta)
        from (select n.source, n.lane, n.state, 1 as delta from new_jobs n
              union all select o.source, o.lane, o.state, -1 from old_jobs o) c
        group by 1, 2, 3 having sum(c.delta) <> 0;
    end if;
    return null;
end
$$;
comment on function salesai.count_jobs() is 'Trigger: notes how a statement changed the number of jobs';

-- Jobs die where claims look first, whatever share of a long queue they are.
alter table salesai.job set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

create trigger count_inserted after insert on salesai.job
    referencing new table as new_jobs for each statement execute function salesai.count_jobs();
create trigger count_updated after update on salesai.job
    referencing new table as new_jobs old table as old_jobs for each statement execute function salesai.count_jobs();
create trigger count_deleted after delete on salesai.job
    referencing old table as old_jobs for each statement execute function salesai.count_jobs();
create trigger count_truncated after truncate on salesai.job for each statement execute function salesai.count_jobs();
insert into salesai.job_count (source, lane, state, delta)
select j.source, j.lane, j.state, count(*) from salesai.job j group by 1, 2, 3;

-- Embedding sets. Those that exist keep their template.

create function salesai.default_template() returns text
language sql immutable parallel safe
as $$ select '{heading} | {date}' || e'\n' || '{content}' $$;
comment on function salesai.default_template() is 'Template of embedding sets that are made without one';
alter table salesai.embedding_set
    drop constraint embedding_set_dimensions_check, add constraint embedding_set_dimensions_check check (dimensions between 1 and 4000),
    alter column template set default salesai.default_template(),
    drop constraint embedding_set_state_check,
    add constraint embedding_set_state_check check (state in ('building', 'ready', 'active', 'retired')),
    add column element text not null default 'vector' check (element in ('vector', 'halfvec')),
    add column hnsw_m integer not null default 16,
    add column hnsw_ef_construction integer not null default 64,
    add column index_method text not null default 'hnsw' check (index_method in ('codes', 'hnsw')),
    add column switch_when_complete boolean not null default false,
    add column activated_at timestamptz,
    add column filling_since timestamptz not null default now(),
    add column filled_before bigint not null default 0,
    add constraint embedding_set_check check (element = 'halfvec' or dimensions <= 2000),
    add constraint embedding_set_check1 check (hnsw_ef_construction >= 2 * hnsw_m);
comment on table salesai.embedding_set is
    'A version of all embeddings: model, weights, dimensions, template. building: is being filled; ready: complete, waits for salesai.activate_embedding_set; active: the one that search uses; retired: was active and can be again. Its vectors are in salesai.embedding_<id>';
comment on column salesai.embedding_set.template is
    'What is embedded of a chunk: {heading} (kind, account, opportunity, subject, section), {date}, {kind} and {content} are put in';
comment on column salesai.embedding_set.filled_before is 'Embeddings that there were at filling_since';
comment on column salesai.embedding_set.element is 'vector: 4 bytes for each dimension; halfvec: 2';
comment on column salesai.embedding_set.index_method is
    'codes: all vectors in two bits a dimension are scanned, and the best compared as they are; hnsw: an index of pgvector is followed';

-- What the dense leg scans: the vectors of a set in two bits a dimension (kernels/src/codes/), in tables of their own,
-- salesai.embedding_<set id>_codes, made at run time by salesai.create_embedding_codes. Vectors that have no code yet, or
-- have changed since, wait in salesai.embedding_delta, and search reads each of them.

create table salesai.embedding_code_index (
    set_id bigint primary key references salesai.embedding_set on delete cascade,
    centre real[],
    centre_count bigint not null default 0,
    code_count bigint not null default 0,
    stale_count bigint not null default 0
);
comment on table salesai.embedding_code_index is
    'Embedding sets whose vectors have codes. centre: what they are around, the mean direction of centre_count vectors, NULL before the first; stale_count: how many of the codes are of vectors that changed or went since';

-- No foreign key: its check would lock salesai.embedding_set after the vectors, which deadlocks (57_embedding_sets.sql).
create table salesai.embedding_delta (
    set_id bigint not null,
    chunk_id bigint not null,
    -- It never had a code.
    is_new boolean not null,
    changes integer not null default 0,
    primary key (set_id, chunk_id)
);
comment on table salesai.embedding_delta is 'Vectors that have no code, or one that is not theirs any more; search reads each of them';

-- Owner rights: whoever writes vectors has them coded. A row that waits already is locked and counts on, so that nobody
-- takes it away for a code of what the vector was before.
create function salesai.note_changed_embeddings() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        execute format('delete from salesai.%I', 'embedding_' || tg_argv[0] || '_codes');
        delete from salesai.embedding_delta d where d.set_id = tg_argv[0]::bigint;
        update salesai.embedding_code_index i set centre = null, centre_count = 0, code_count = 0, stale_count = 0
        where i.set_id = tg_argv[0]::bigint;
        return null;
    end if;
    insert into salesai.embedding_delta as d (set_id, chunk_id, is_new)
    select tg_argv[0]::bigint, c.chunk_id, tg_op = 'INSERT' from changed c
    on conflict (set_id, chunk_id) do update set changes = d.changes + 1;
    return null;
end
$$;
comment on function salesai.note_changed_embeddings() is 'Trigger: queues changed vectors of an embedding set for new codes';

create function salesai.can_have_codes(dimensions integer) returns boolean
language sql immutable strict parallel safe
as $$ select dimensions between 32 and 1920 $$;
comment on function salesai.can_have_codes(integer) is
    'Whether vectors of so many dimensions can have codes (kernels/src/codes/mod.rs): those of fewer say too little, those of more do not fit a page';

create function salesai.waiting_embeddings(set_id bigint, at_most integer) returns integer
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select count(*)::integer from (select from salesai.embedding_delta d where d.set_id = $1 limit at_most) d
$$;
comment on function salesai.waiting_embeddings(bigint, integer) is 'How many vectors of a set wait for codes, counted no further than at_most';

-- Like the vectors' own, the table is no extension member. Its rows fill whole pages.
create function salesai.create_embedding_codes(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    vectors constant text := 'embedding_' || set_id;
    codes constant text := vectors || '_codes';
begin
    execute format('drop table if exists salesai.%I', codes);
    execute format('create table salesai.%I (codes bytea storage plain not null) using heap', codes);
    -- Nothing asks the planner for a row of it, and a sample of wide rows takes much memory.
    execute format('alter table salesai.%I alter column codes set statistics 0', codes);
    execute format('alter table salesai.%I enable row level security, force row level security', codes);
    execute format('create policy worker on salesai.%I to salesai_worker using (true)', codes);
    execute format('grant select, insert, delete on salesai.%I to salesai_worker', codes);
    execute format('comment on table salesai.%I is %L', codes, format('Codes of the vectors of embedding set %s, sixteen a group', set_id));
    insert into salesai.embedding_code_index (set_id) values (set_id);
    execute format(
        'create trigger note_added_embeddings after insert on salesai.%1$I referencing new table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_changed_embeddings after update on salesai.%1$I referencing new table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_gone_embeddings after delete on salesai.%1$I referencing old table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_truncated_embeddings after truncate on salesai.%1$I
             for each statement execute function salesai.note_changed_embeddings(%2$L)', vectors, set_id);
    execute format('insert into salesai.embedding_delta (set_id, chunk_id, is_new) select $1, e.chunk_id, true from salesai.%I e', vectors)
        using set_id;
    update salesai.embedding_set s set index_method = 'codes' where s.id = set_id;
end
$$;
comment on function salesai.create_embedding_codes(bigint) is 'Makes the table of an embedding set''s codes, and queues its vectors for them';

-- One step; false when there is nothing to do, or somebody else is at it.
create function salesai.merge_embedding_delta(vectors_min integer default 256) returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_embedding_delta_wrapper';
comment on function salesai.merge_embedding_delta(integer) is
    'Codes up to 4,096 vectors of a set that wait for it, if there are at least so many; false when there are not';

create function salesai.code_embeddings(set_id bigint) returns bigint
language c volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'code_embeddings_wrapper';
comment on function salesai.code_embeddings(bigint) is
    'Codes all vectors of an embedding set anew, around their present mean; search goes on with the old codes until this commits. Returns how many';

-- Statements that the upkeep of codes runs: vectors of chunks, vectors after a chunk, their mean, and what writes codes.
create function salesai.code_statement(set_id bigint, which text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format(case which
        when 'some' then 'select e.chunk_id, e.embedding::@extschema:vector@.vector::real[] from salesai.%1$I e where e.chunk_id = any ($1) order by 1'
        when 'next' then 'select e.chunk_id, e.embedding::@extschema:vector@.vector::real[] from salesai.%1$I e where e.chunk_id > $1 order by 1 limit $2'
        when 'mean' then 'select @extschema:vector@.avg(@extschema:vector@.l2_normalize(e.embedding))::@extschema:vector@.vector::real[] from salesai.%1$I e where $1 is null or e.chunk_id = any ($1)'
        when 'clear' then 'delete from salesai.%2$I'
        when 'write' then 'insert into salesai.%2$I (codes) select unnest($1::bytea[])' end,
        'embedding_' || set_id, 'embedding_' || set_id || '_codes')
$$;
comment on function salesai.code_statement(bigint, text) is 'A statement of the upkeep of an embedding set''s codes';

create or replace function salesai.current_principal() returns salesai.principal_identity
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
    select row(
        me.name,
        p.rep_id,
        array(select m.team_id from salesai.team_member m where m.rep_id = p.rep_id),
        coalesce(p.read_scope, 'own'),
        coalesce(p.can_write, false))::salesai.principal_identity
    from (select salesai.current_role_name() as name offset 0) me
    left join lateral (
        select *
        from salesai.principal p
        where p.role_name = me.name
           or exists (select from pg_roles r
                      where r.rolname = p.role_name
                        and pg_has_role(me.name, r.oid, 'member'))
        order by p.role_name = me.name desc,
                 array_position(array['all', 'team', 'own'], p.read_scope),
                 p.can_write desc
        limit 1
    ) p on true
$$;
alter table salesai.chunk
    drop constraint chunk_interaction_id_position_key, add unique (interaction_id, position) deferrable;

drop policy visible on salesai.contact;
create policy visible on salesai.contact
    using ((select salesai.reads_all()) or exists (select from salesai.account a where a.id = account_id))
    with check (((select salesai.reads_all()) or exists (select from salesai.account a where a.id = account_id)) and (select salesai.writes()));
drop policy visible on salesai.job;
create policy visible on salesai.job
    using ((select salesai.reads_all()) or exists (select from salesai.interaction i where i.id = interaction_id))
    with check (((select salesai.reads_all()) or exists (select from salesai.interaction i where i.id = interaction_id))
        and (select salesai.writes()));
drop policy visible on salesai.job_error;
create policy visible on salesai.job_error
    using ((select salesai.reads_all()) or exists (select from salesai.interaction i where i.id = interaction_id))
    with check (((select salesai.reads_all()) or exists (select from salesai.interaction i where i.id = interaction_id))
        and (select salesai.writes()));

-- Functions and views.

drop function salesai.create_embedding_set(text, text, integer);
drop function salesai.ingest_call(text, text, text, text, text, text, timestamptz, jsonb, jsonb, text);
drop function salesai.ingest_note(text, text, text, text, text, timestamptz, jsonb, text);
drop function salesai.ingest_email(text, text, bytea, text, text, jsonb);
drop function salesai.ingest_crm(text, text, jsonb);
drop function salesai.enqueue(bigint, integer);
drop function salesai.claim_jobs(integer, integer);
drop function salesai.finish_job(bigint, uuid, jsonb, real[], text, text, integer);
drop function salesai.retry_errors();
drop function salesai.activate_embedding_set(bigint);
drop function salesai.job_segments(bigint, integer);

-- Objects can be named by id, external id, name or (accounts) domain.
create or replace function salesai.resolve_account(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(a.id) into ids
    from salesai.account a
    where a.deleted_at is null and (a.id::text = reference or a.external_id = reference
        or a.name_key = lower(reference) or lower(a.domain) = lower(reference));
    return salesai.only_match('account', reference, ids);
end
$$;
comment on function salesai.resolve_account(text) is 'Id of the account with this id, external id, name or domain; P0002 when there is none';

create or replace function salesai.resolve_opportunity(reference text) returns bigint
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    ids bigint[];
begin
    select array_agg(o.id) into ids
    from salesai.opportunity o
    where o.deleted_at is null
      and (o.id::text = reference or o.external_id = reference or o.name_key = lower(reference));
    return salesai.only_match('opportunity', reference, ids);
end
$$;
comment on function salesai.resolve_opportunity(text) is 'Id of the opportunity with this id, external id or name; P0002 when there is none';

create function salesai.model_embedding_values(
    model text, texts text[], timeout_ms integer default null, model_sha256 text default null) returns setof real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'model_embedding_values_wrapper';
comment on function salesai.model_embedding_values(text, text[], integer, text) is 'The same by a named model (NULL: the default one); 55000 when it has other weights than those asked for';

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

comment on function salesai.parse_email(bytea) is 'Headers and segments of an RFC 5322 message as JSON; part says what is new, quoted or a signature';

create function salesai.redacted_kinds(source text) returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select p.kinds from salesai.redaction_policy p
                     where p.role_name is null and (p.source = $1 or p.source is null)
                     order by p.source nulls last limit 1),
                    array_remove(salesai.pii_kinds(), 'name'))
$$;
comment on function salesai.redacted_kinds(text) is 'Kinds of personal data taken out of what arrives from this source';

create function salesai.hidden_kinds() returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct kind), '{}')
    from salesai.redaction_policy p, unnest(p.kinds) kind
    where p.role_name = salesai.current_role_name()
       -- A superuser counts as a member of every role.
       or exists (select from pg_roles r, pg_roles me
                  where r.rolname = p.role_name and me.rolname = salesai.current_role_name() and not me.rolsuper
                    and pg_has_role(me.oid, r.oid, 'member'))
$$;
comment on function salesai.hidden_kinds() is 'Kinds of personal data that the session''s role does not see in originals';

create function salesai.known_names(account_id bigint, interaction_id bigint) returns text[]
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct name), '{}') from (
        -- One that was deleted before it came has no name but its id.
        select r.name from salesai.rep r where r.deleted_at is null or r.name <> r.external_id
        union all
        select c.name from salesai.contact c where c.account_id = $1 and (c.deleted_at is null or c.name <> c.external_id)
        union all
        select n.name
        from salesai.participant p
        left join salesai.contact c on c.id = p.contact_id and (c.deleted_at is null or c.name <> c.external_id)
        cross join lateral (values (p.name), (c.name)) n (name)
        where p.interaction_id = $2 and n.name is not null) known (name)
$$;
comment on function salesai.known_names(bigint, bigint) is
    'Names of reps, of the account''s contacts and of who took part, as the source and the CRM have them: what the kind "name" means there';

create function salesai.redact_text(content text, kinds text[], names text[]) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'redact_text_wrapper';
comment on function salesai.redact_text(text, text[], text[]) is 'The text with personal data of these kinds replaced by [kind]';

create function salesai.speakers(interaction_id bigint) returns table (participant_id bigint, label text)
language sql stable rows 5
set search_path = pg_catalog, pg_temp
as $$
    select named.id,
        -- Two whose names are hidden stay two.
        case when named.label ~ '^\[\w+\]$' then rtrim(named.label, ']') || ' ' || row_number() over (order by named.id) || ']'
             else named.label end
    from (
        select p.id, case
            when 'name' = any (i.redacted_kinds)
                then salesai.redact_text(who.name, i.redacted_kinds, salesai.known_names(i.account_id, i.id))
            -- The rules take some megabytes, and a name of letters alone has nothing for them.
            when who.name ~ '[@0-9]' then salesai.redact_text(who.name, coalesce(i.redacted_kinds, '{}'), '{}')
            else who.name end as label
        from salesai.interaction i
        join salesai.participant p on p.interaction_id = i.id
        left join salesai.rep r on r.id = p.rep_id
        left join salesai.contact c on c.id = p.contact_id
        cross join lateral (select case when p.name like '%@%' then coalesce(r.name, c.name, p.name) else p.name end as name) who
        where i.id = $1) named
$$;
comment on function salesai.speakers(bigint) is
    'What search and models call those who took part: their names, redacted as what they say, [name 1] and so on; for a bare address the name that the CRM has';

create function salesai.redact(content text, kinds text[] default null, names text[] default '{}') returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select salesai.redact_text(content, coalesce(kinds, salesai.redacted_kinds(null)), names) $$;
comment on function salesai.redact(text, text[], text[]) is
    'The text with personal data replaced by [kind]; kinds: default those that salesai.redaction_policy has for sources without a row of their own; names: what the kind "name" looks for';

create function salesai.redact_segments(
    segments jsonb, kinds text[], names text[], wrapped_key bytea, interaction_id bigint, version integer)
returns table ("position" integer, content text, redactions integer[], sealed bytea)
language c volatile strict parallel safe cost 100000 as 'MODULE_PATHNAME', 'redact_segments_wrapper';
comment on function salesai.redact_segments(jsonb, text[], text[], bytea, bigint, integer) is
    'What is stored of segments ([{content}], positions from 0): redacted, with the places and the sealed original where that changed something';

create function salesai.unseal_segment(
    sealed bytea, wrapped_key bytea, interaction_id bigint, version integer, "position" integer) returns text
language c stable strict parallel restricted as 'MODULE_PATHNAME', 'unseal_segment_wrapper';
comment on function salesai.unseal_segment(bytea, bytea, bigint, integer, integer) is 'Opens a sealed segment, without what a policy hides from the caller''s role';

create function salesai.seal_text(content text, wrapped_key bytea, interaction_id bigint, version integer) returns bytea
language c volatile strict parallel safe as 'MODULE_PATHNAME', 'seal_text_wrapper';
comment on function salesai.seal_text(text, bytea, bigint, integer) is 'Deflates and encrypts the text of a document';

create function salesai.unseal_text(sealed bytea, wrapped_key bytea, interaction_id bigint, version integer) returns text
language c stable strict parallel restricted as 'MODULE_PATHNAME', 'unseal_text_wrapper';
comment on function salesai.unseal_text(bytea, bytea, bigint, integer) is 'Opens the sealed text of a document, without what a policy hides from the caller''s role';

create function salesai.original_segment(segment_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        salesai.unseal_segment(s.sealed, d.wrapped_key, s.interaction_id, s.version, s.position),
        salesai.redact_text(s.content, salesai.hidden_kinds(), salesai.known_names(i.account_id, i.id)))
    from salesai.segment s
    join salesai.interaction i on i.id = s.interaction_id
    left join salesai.data_key d on d.interaction_id = i.id
    where s.id = $1
$$;
comment on function salesai.original_segment(bigint) is
    'What was said in a segment, without the kinds that a policy hides from the caller''s role; NULL when the caller may not see it, 42501 for roles that may not see originals';

create function salesai.apply_redaction(source text default null, max_interactions integer default 1000) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
    done bigint := 0;
begin
    if salesai.hidden_kinds() <> '{}' then
        raise exception 'permission denied for whole originals' using errcode = '42501',
            detail = 'A row of salesai.redaction_policy hides something from this role.', hint = 'Call it as another administrator.';
    end if;
    for item in
        select i.id, i.version, i.account_id, salesai.redacted_kinds(i.source) as kinds, d.wrapped_key
        from salesai.interaction i
        left join salesai.data_key d on d.interaction_id = i.id
        where ($1 is null or i.source = $1) and i.redacted_kinds is distinct from salesai.redacted_kinds(i.source)
        order by i.id
        limit max_interactions
        for update of i
    loop
        names := salesai.known_names(item.account_id, item.id);
        -- Without a key what was said is gone, and what is stored is all there is.
        if item.wrapped_key is null then
            update salesai.segment s
            set content = salesai.redact_text(s.content, item.kinds, names), redactions = null, sealed = null
            where s.interaction_id = item.id;
        else
            update salesai.segment s
            set content = r.content, redactions = r.redactions, sealed = r.sealed
            from (select o.version, jsonb_agg(jsonb_build_object('content', coalesce(
                              salesai.unseal_segment(o.sealed, item.wrapped_key, o.interaction_id, o.version, o.position), o.content))
                          order by o.position) as segments
                  from salesai.segment o where o.interaction_id = item.id group by o.version) stored,
                lateral salesai.redact_segments(stored.segments, item.kinds, names, item.wrapped_key, item.id, stored.version) r
            where s.interaction_id = item.id and s.version = stored.version and s.position = r.position;
        end if;
        update salesai.interaction i
        set redacted_kinds = item.kinds, subject = salesai.redact_text(i.subject, item.kinds, names), state = 'pending', updated_at = now()
        where i.id = item.id;
        perform salesai.enqueue(item.id, item.version);
        done := done + 1;
    end loop;
    return done;
end
$$;
comment on function salesai.apply_redaction(text, integer) is
    'Redacts what is stored as the policies are now, of one source or all, at most so many interactions, and queues them for indexing, after which search has the new texts; returns how many. Call it until it returns 0. A subject that was redacted stays so';

-- Adds participants and matches them to reps and contacts: by e-mail first, then by name.
create or replace function salesai.store_participants(interaction_id bigint, people jsonb) returns void
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
        where r.deleted_at is null and (lower(r.email) = lower(person.email) or lower(r.name) in (salesai.normalise_name(person.name), lower(btrim(person.name))))
        order by (lower(r.email) = lower(person.email)) desc nulls last, r.id limit 1) rep on true
    left join lateral (
        select c.id from salesai.contact c, salesai.interaction i
        where rep.id is null and c.deleted_at is null and i.id = $1
          and (lower(c.email) = lower(person.email)
               or c.name_key in (salesai.normalise_name(person.name), lower(btrim(person.name)))
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

create or replace function salesai.normalise_name(name text) returns text
language sql immutable strict parallel safe
as $$
    -- What programs put behind a name, then "Lund, Ana".
    select pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(pg_catalog.regexp_replace(
        name, '\s*[\[(].*[\])]\s*$|\s+[|\u2013\u2014-]\s[^0-9].*$', ''))), '\s+', ' ', 'g'), '^([^,]+), ([^,]+)$', '\2 \1')
$$;
comment on function salesai.normalise_name(text) is
    'A speaker name for matching: in lower case, the first name first, without what stands in brackets or behind a dash or bar';

-- The one place that writes an interaction. item: kind, source, external_id, account, opportunity,
-- occurred_at, duration_ms, subject, thread_key, properties, media_type, participants, lane.
create or replace function salesai.store_interaction(item jsonb, payload bytea) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    known salesai.interaction;
    account_id bigint := salesai.resolve_account(nullif(item ->> 'account', ''));
    opportunity_id bigint := salesai.resolve_opportunity(nullif(item ->> 'opportunity', ''));
    payload_hash bytea := salesai.payload_hash(payload);
    given_time timestamptz := item ->> 'occurred_at';
    kinds text[] := salesai.redacted_kinds(item ->> 'source');
    given_subject text;
    owner_id bigint;
    owner_team_id bigint;
    data_key bytea;
    is_activity constant boolean := item ->> 'kind' = 'crm_activity';
begin
    if coalesce(item ->> 'lane', '') not in ('interactive', 'background') then
        raise exception 'unknown lane "%"', item ->> 'lane' using errcode = '22023', hint = 'Use interactive or background.';
    end if;
    perform salesai.check_queue_room();
    if coalesce(item ->> 'source', '') = '' or coalesce(item ->> 'external_id', '') = '' then
        raise exception 'source and external_id must not be empty' using
            errcode = '22023', hint = 'They name the interaction where it comes from, and make a repeated call harmless.';
    end if;
    if account_id is null and opportunity_id is not null then
        select o.account_id into account_id from salesai.opportunity o where o.id = opportunity_id;
    end if;
    select a.owner_rep_id, a.team_id into owner_id, owner_team_id from salesai.account a where a.id = account_id;
    -- It stands in every chunk.
    given_subject := salesai.redact_text(left(item ->> 'subject', 1000), kinds,
        salesai.known_names(account_id, null)
        || array(select p ->> 'name' from jsonb_array_elements(coalesce(item -> 'participants', '[]')) p where p ->> 'name' <> ''));

    -- The insert takes the row's lock even when it changes nothing, so two writers of one key take turns.
    insert into salesai.interaction as i (source, external_id, kind, account_id, opportunity_id, owner_rep_id,
        team_id, occurred_at, duration_ms, subject, thread_key, content_hash, properties, redacted_kinds)
    values (item ->> 'source', item ->> 'external_id', item ->> 'kind', account_id, opportunity_id,
        case when account_id is null then salesai.reader_rep_id() else owner_id end, owner_team_id,
        given_time, (item ->> 'duration_ms')::bigint, given_subject, item ->> 'thread_key', payload_hash,
        coalesce(item -> 'properties', '{}'), kinds)
    on conflict (source, external_id) do update set updated_at = i.updated_at
    returning * into known;

    if known.kind <> item ->> 'kind' then
        raise exception '"%" of source "%" is known as another kind of interaction', known.external_id, known.source using
            errcode = '22023', detail = format('It is a %s, not a %s.', known.kind, item ->> 'kind'),
            hint = 'Give it another external_id or source.';
    end if;
    if exists (select from salesai.raw_payload r where r.interaction_id = known.id) then
        if is_activity then
            -- A late copy of what a CRM logged changes nothing, now that the row is locked. A newer one may correct its
            -- subject, which salesai.store_reading redacts as here, or its time alone.
            given_subject := salesai.redact_text(given_subject, kinds, salesai.known_names(known.account_id, known.id));
            if (item #>> '{properties,updated_at}')::timestamptz < (known.properties ->> 'updated_at')::timestamptz then
                return known.id;
            end if;
        end if;
        if known.content_hash = payload_hash
           and not (is_activity and (known.subject, known.occurred_at) is distinct from (given_subject, given_time)) then
            return known.id;
        end if;
        update salesai.interaction i
        set version = i.version + 1, content_hash = payload_hash, state = 'pending', updated_at = now(),
            duration_ms = (item ->> 'duration_ms')::bigint,
            subject = case when is_activity then given_subject else coalesce(given_subject, i.subject) end,
            occurred_at = case when is_activity then given_time else i.occurred_at end, redacted_kinds = kinds,
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
    perform salesai.store_participants(known.id, coalesce(item -> 'participants', '[]'));
    perform salesai.enqueue(known.id, known.version, item ->> 'lane');
    return known.id;
end
$$;
comment on function salesai.store_interaction(jsonb, bytea) is
    'Stores an interaction with its sealed payload and participants, and queues it. Unchanged payload: returns the known id';

create function salesai.decode_text(content bytea) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'decode_text_wrapper';
comment on function salesai.decode_text(bytea) is
    'The text of bytes in any encoding: that of its byte order mark, UTF-8 where it is valid, else the likeliest one. For transcripts and notes that are files. Binary content: 22021';

create function salesai.ingest_call(
    source text, external_id text, transcript text, format text default 'auto',
    account text default null, opportunity text default null, started_at timestamptz default now(),
    participants jsonb default null, metadata jsonb default '{}', subject text default null, lane text default 'interactive')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    known constant jsonb := salesai.inspect_transcript(coalesce(transcript, ''), coalesce(format, 'auto'));
begin
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'call', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', started_at, 'duration_ms', known -> 'duration_ms',
            'subject', subject, 'properties', metadata, 'participants', coalesce(participants, '[]'),
            'media_type', known -> 'media_type', 'lane', lane),
        convert_to(transcript, 'UTF8'));
end
$$;
comment on function salesai.ingest_call(text, text, text, text, text, text, timestamptz, jsonb, jsonb, text, text) is
    'Stores a call transcript (WebVTT of Zoom and Teams, SRT, Gong''s JSON, plain "Speaker: text"; format auto, vtt, srt, gong or plain) and queues it; returns the interaction id. participants: [{name, email, side, role}]';

create function salesai.ingest_note(
    source text, external_id text, body text, account text default null, opportunity text default null,
    occurred_at timestamptz default now(), metadata jsonb default '{}', subject text default null, lane text default 'interactive')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A long note mostly begins with a word.
    if coalesce(left(body, 100), '') !~ '\S' and coalesce(body, '') !~ '\S' then
        raise exception 'note is empty' using errcode = '22023';
    end if;
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'note', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', occurred_at, 'subject', subject,
            'properties', metadata, 'media_type', 'text/plain', 'lane', lane),
        convert_to(body, 'UTF8'));
end
$$;
comment on function salesai.ingest_note(text, text, text, text, text, timestamptz, jsonb, text, text) is
    'Stores a note and queues it; returns the interaction id';

create function salesai.ingest_document(
    source text, external_id text, content bytea, filename text, mime text default null, account text default null,
    opportunity text default null, occurred_at timestamptz default now(), metadata jsonb default '{}', subject text default null,
    lane text default 'interactive')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if octet_length(content) is null or octet_length(content) = 0 then
        raise exception 'document is empty' using errcode = '22023';
    end if;
    if octet_length(content) > 67108864 then
        raise exception 'document is too large' using errcode = '54000',
            detail = format('It has %s bytes; at most 67108864 are read.', octet_length(content)),
            hint = 'Split it and ingest the parts under external ids of their own.';
    end if;
    if coalesce(filename, '') = '' or octet_length(filename) > 1024 or octet_length(mime) > 256 then
        raise exception 'filename must have 1 to 1024 bytes, mime at most 256' using errcode = '22023';
    end if;
    return salesai.store_interaction(
        jsonb_build_object(
            'kind', 'document', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', occurred_at, 'subject', coalesce(subject, filename),
            'properties', coalesce(metadata, '{}') || jsonb_build_object('filename', filename),
            'media_type', coalesce(mime, ''), 'lane', lane),
        content);
end
$$;
comment on function salesai.ingest_document(text, text, bytea, text, text, text, text, timestamptz, jsonb, text, text) is
    'Stores a document (PDF, DOCX, PPTX, XLSX, XLS, ODS, ODT, EPUB, RTF, HTML, CSV, Markdown, text; at most 64 MiB) and queues it; returns the interaction id. Its text is read by the worker; one that has none fails with the reason in salesai.pipeline_errors';

create function salesai.email_attachments(message bytea) returns table (number integer, filename text, mime text, content bytea)
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'email_attachments_wrapper';
comment on function salesai.email_attachments(bytea) is 'Attached documents of an e-mail, by the endings of their names';

create function salesai.ingest_email(
    source text, external_id text, message bytea, account text default null, opportunity text default null,
    metadata jsonb default '{}', lane text default 'interactive')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    headers constant jsonb := salesai.email_headers(coalesce(message, ''));
    correspondents text[];
    sent_at timestamptz := coalesce(to_timestamp((headers ->> 'sent_at_ms')::double precision / 1000), now());
    own_id constant text := headers ->> 'message_id';
    thread text := headers ->> 'thread_key';
    email_id bigint;
begin
    -- Some programs name only the mail that is answered, whose thread is the older one. No lock: a batch would hold one
    -- for each mail, more than the server has room for.
    thread := coalesce(
        (select i.thread_key from salesai.interaction i where i.kind = 'email' and i.message_id = thread order by i.id limit 1),
        thread);
    if account is null and opportunity is null then
        -- The account is the only known one among the correspondents' domains.
        select array_agg(distinct a.id::text) into correspondents
        from salesai.account a
        where a.deleted_at is null and lower(a.domain) in (
            select split_part(lower(p ->> 'email'), '@', 2) from jsonb_array_elements(headers -> 'participants') p);
        if cardinality(correspondents) = 1 then
            account := correspondents[1];
        end if;
    end if;
    email_id := salesai.store_interaction(
        jsonb_build_object(
            'kind', 'email', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', sent_at,
            'subject', headers -> 'subject', 'thread_key', thread,
            'properties', metadata || jsonb_build_object('message_id', own_id, 'mail_kind', headers -> 'mail_kind'),
            'participants', headers -> 'participants', 'media_type', headers -> 'media_type', 'lane', lane),
        message);
    -- Answers that came first.
    update salesai.interaction i set thread_key = thread
    where i.id in (select a.id from salesai.interaction a where a.thread_key = own_id and a.id <> email_id order by a.id for update)
      and thread <> own_id;
    perform salesai.ingest_document(source, format('%s/%s', external_id, a.number), a.content, a.filename, nullif(a.mime, ''),
        account, opportunity, sent_at, jsonb_build_object('email_id', email_id), lane => lane)
    from salesai.email_attachments(message) a;
    return email_id;
end
$$;
comment on function salesai.ingest_email(text, text, bytea, text, text, jsonb, text) is
    'Stores an RFC 5322 message, or one of Outlook (.msg), and queues it; returns the interaction id. Without account and opportunity the account comes from the correspondents'' domains. Attached documents become interactions of their own, external_id/1 and so on, with the e-mail''s id in properties. properties.mail_kind tells automatic answers (auto_reply) and bounces from what persons write (personal). Segment offsets count characters of the decoded body';

create function salesai.document_text(interaction_id bigint, version integer default null) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.unseal_text(r.text_ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.raw_payload r
    join salesai.data_key d on d.interaction_id = r.interaction_id
    where r.interaction_id = $1 and ($2 is null or r.version = $2)
    order by r.version desc limit 1
$$;
comment on function salesai.document_text(bigint, integer) is
    'The text of a document as Markdown, without the kinds of personal data that a policy hides from the caller''s role; NULL when it is not read yet or the caller may not see it. Segment offsets count its characters';

comment on function salesai.original(bigint, integer) is 'What arrived, byte for byte, of the latest or a given version; NULL when the caller may not see it, 42501 when a policy hides something from the caller''s role';

-- Many at once. item: the arguments of the function for this kind; content or payload for a transcript or body.
create function salesai.ingest_item(kind text, item jsonb, payload bytea, lane text) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    happened_at constant timestamptz := coalesce((item ->> 'occurred_at')::timestamptz, now());
    metadata constant jsonb := coalesce(nullif(item -> 'metadata', 'null'), '{}');
begin
    case kind
        when 'call' then
            return salesai.ingest_call(item ->> 'source', item ->> 'external_id', coalesce(item ->> 'content', salesai.decode_text(payload)),
                coalesce(item ->> 'format', 'auto'), item ->> 'account', item ->> 'opportunity', happened_at,
                nullif(item -> 'participants', 'null'), metadata, item ->> 'subject', lane);
        when 'note' then
            return salesai.ingest_note(item ->> 'source', item ->> 'external_id', coalesce(item ->> 'content', salesai.decode_text(payload)),
                item ->> 'account', item ->> 'opportunity', happened_at, metadata, item ->> 'subject', lane);
        when 'email' then
            return salesai.ingest_email(item ->> 'source', item ->> 'external_id', payload, item ->> 'account',
                item ->> 'opportunity', metadata, lane);
        when 'document' then
            return salesai.ingest_document(item ->> 'source', item ->> 'external_id', payload, item ->> 'filename',
                item ->> 'mime', item ->> 'account', item ->> 'opportunity', happened_at, metadata, item ->> 'subject', lane);
        else
            raise exception 'unknown kind "%"', kind using errcode = '22023', hint = 'Use call, email, note or document.';
    end case;
end
$$;
comment on function salesai.ingest_item(text, jsonb, bytea, text) is 'Ingests one item of any kind';

create function salesai.ingest_batch(kind text, items jsonb, lane text default 'background')
returns table (external_id text, id bigint, outcome text, error_code text, message text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item jsonb;
begin
    if jsonb_typeof(items) is distinct from 'array' then
        raise exception 'items must be a JSON array' using errcode = '22023';
    end if;
    for item in select value from jsonb_array_elements(items) loop
        external_id := item ->> 'external_id';
        begin
            id := salesai.ingest_item(kind, item, decode(item ->> 'payload', 'base64'), lane);
            outcome := 'ingested';
            error_code := null;
            message := null;
        -- A full queue or a conflict is no item's fault: the caller sends all of it again.
        exception when configuration_limit_exceeded or transaction_rollback then
            raise;
        when others then
            id := null;
            outcome := 'refused';
            error_code := sqlstate;
            message := sqlerrm;
        end;
        return next;
    end loop;
end
$$;
comment on function salesai.ingest_batch(text, jsonb, text) is
    'Ingests an array of calls, emails, notes or documents ({source, external_id, content or payload (base64), account, opportunity, occurred_at, subject, format, filename, mime, participants, metadata}); one that is refused keeps no other. outcome: ingested or refused, then with SQLSTATE (error_code) and message. They wait behind what arrives one by one, unless lane is interactive';

-- For COPY: rows are ingested as they come, and none is stored here, so that no original lies about in clear.
create view salesai.inbox with (security_invoker) as
select null::text as kind, null::text as source, null::text as external_id, null::text as content, null::bytea as payload,
    null::text as account, null::text as opportunity, null::timestamptz as occurred_at, null::text as subject,
    null::text as format, null::text as filename, null::text as mime, null::jsonb as participants, null::jsonb as metadata
where false;
comment on view salesai.inbox is
    'Always empty: insert into it, or copy salesai.inbox (kind, source, external_id, content) from stdin, ingests each row in the background lane. kind: call, note (content, or payload as salesai.decode_text reads it), email, document (payload). One bad row undoes the whole statement; salesai.ingest_batch goes on';

create function salesai.ingest_inbox_row() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    payload constant bytea := new.payload;
begin
    new.payload := null;
    perform salesai.ingest_item(new.kind, to_jsonb(new), payload, 'background');
    return new;
end
$$;
comment on function salesai.ingest_inbox_row() is 'Trigger: ingests a row of salesai.inbox';

create trigger ingest instead of insert on salesai.inbox for each row execute function salesai.ingest_inbox_row();

-- Columns of each kind: how a record's fields are taken over. Order: what others refer to comes first.
create or replace function salesai.ingest_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    owner_id bigint := case when kind in ('account', 'opportunity')
        then salesai.external_reference('rep', $1, record ->> 'owner') end;
    account_id bigint := case when kind in ('contact', 'opportunity')
        then salesai.external_reference('account', $1, record ->> 'account') end;
    fields jsonb;
    sets text;
    names text;
    record_id bigint;
    is_new boolean;
    team_id bigint := salesai.external_reference('team', $1, record ->> 'team');
begin
    if account_id is null and (record -> 'keeps_account')::boolean and kind in ('contact', 'opportunity') then
        -- The source says it elsewhere, if at all.
        execute format('select t.account_id from salesai.%I t where t.source = $1 and t.external_id = $2 for no key update', kind)
            into account_id using $1, record ->> 'external_id';
    end if;
    if team_id is null and kind in ('account', 'opportunity') then
        select min(m.team_id) into team_id from salesai.team_member m where m.rep_id = owner_id;
    end if;
    fields := jsonb_build_object('name', record -> 'name', 'properties', record, 'source_updated_at', record -> 'updated_at')
        || case kind
            when 'team' then '{}'
            when 'rep' then jsonb_build_object('email', record -> 'email')
            when 'account' then jsonb_build_object('domain', record -> 'domain', 'industry', record -> 'industry',
                'owner_rep_id', owner_id, 'team_id', team_id)
            when 'product' then jsonb_build_object('code', record -> 'code')
            when 'stage' then jsonb_build_object('pipeline', record -> 'pipeline', 'position', record -> 'position',
                'probability', record -> 'probability', 'is_closed', record -> 'is_closed',
                'is_won', coalesce((record ->> 'is_won')::boolean,
                    (record ->> 'is_closed')::boolean and (record ->> 'probability')::real = 1))
            when 'contact' then jsonb_build_object('account_id', account_id, 'email', record -> 'email', 'title', record -> 'title')
            when 'opportunity' then jsonb_build_object('account_id', account_id,
                -- A source that says nothing of it leaves what is known.
                'stage', coalesce(salesai.stage_name($1, record ->> 'stage'),
                    (select o.stage from salesai.opportunity o where o.source = $1 and o.external_id = record ->> 'external_id'),
                    case when record ? 'fields' then 'unknown' end),
                'amount', record -> 'amount', 'currency', record -> 'currency', 'close_date', record -> 'close_date',
                'owner_rep_id', owner_id, 'team_id', team_id)
        end;
    -- A record that does not say of when it is leaves the guard as it was.
    select string_agg(format('%I', f), ', '),
        string_agg(format(case f when 'source_updated_at' then '%I = coalesce(excluded.%1$I, t.%1$I)' else '%I = excluded.%1$I' end, f), ', ')
    into names, sets from jsonb_object_keys(fields) f;
    -- Field names come from the list above, never from the record; values are bound.
    execute format(
        'insert into salesai.%I as t (source, external_id, %s)
         select $1, $2, %2$s from jsonb_populate_record(null::salesai.%1$I, $3)
         on conflict (source, external_id) do update set %3$s, updated_at = now(), deleted_at = null
             where (t.properties is distinct from excluded.properties or t.deleted_at is not null)
               and coalesce(excluded.source_updated_at >= t.source_updated_at, true)
         returning t.id, xmax = 0', kind, names, sets)
        into record_id, is_new using $1, record ->> 'external_id', fields;
    if record_id is null then
        return query execute format(
            'select t.id, case when ($3 ->> ''updated_at'')::timestamptz < t.source_updated_at then ''stale'' else ''unchanged'' end
             from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
            using $1, record ->> 'external_id', record;
        return;
    end if;
    if kind = 'rep' then
        delete from salesai.team_member m where m.rep_id = record_id and m.team_id is distinct from team_id;
        insert into salesai.team_member (rep_id, team_id)
            select record_id, team_id where team_id is not null on conflict do nothing;
    elsif kind = 'opportunity' then
        -- Entries may come in any order, so all are kept; stays are made of them on reading. A source without a history
        -- of its own is noted as it comes.
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, h.stage, h.entered_at
            from (select e ->> 'stage' as stage, (e ->> 'entered_at')::timestamptz as entered_at
                  from jsonb_array_elements(coalesce(record -> 'stage_history', '[]')) e
                  union all
                  select record ->> 'stage', coalesce((record ->> 'updated_at')::timestamptz, now())) h
            where h.stage <> '' and h.entered_at is not null
            on conflict do nothing;
    elsif kind = 'stage' then
        perform salesai.name_stage(record_id);
    end if;
    return query select record_id, case when is_new then 'inserted' else 'updated' end;
end
$$;
comment on function salesai.ingest_crm_record(text, text, jsonb) is 'Upserts one CRM record; use salesai.ingest_crm';

-- What the source deleted.
create function salesai.delete_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'with deleted as (
             update salesai.%I t set deleted_at = now(), updated_at = now(), source_updated_at = coalesce($3, greatest(now(), t.source_updated_at))
             where t.source = $1 and t.external_id = $2 and t.deleted_at is null and coalesce($3 >= t.source_updated_at, true)
             returning t.id)
         select d.id, ''deleted'' from deleted d
         union all
         select t.id, case when t.deleted_at is null then ''stale'' else ''unchanged'' end from salesai.%1$I t
         where t.source = $1 and t.external_id = $2 and not exists (select from deleted)', kind)
        using source, record ->> 'external_id', (record ->> 'updated_at')::timestamptz;
    if not found then
        -- A deletion that overtook what it deletes: an older copy that comes later stays out.
        execute format('insert into salesai.%I (source, external_id, name, source_updated_at, deleted_at%s)
             values ($1, $2, $2, $3, now()%s) on conflict do nothing',
            kind, case kind when 'opportunity' then ', stage' end, case kind when 'opportunity' then format(', %L', 'unknown') end)
            using source, record ->> 'external_id', coalesce((record ->> 'updated_at')::timestamptz, now());
        return query values (null::bigint, 'unchanged');
    end if;
end
$$;
comment on function salesai.delete_crm_record(text, text, jsonb) is 'Marks a CRM record as deleted; use salesai.ingest_crm with "deleted": true';

-- Field names are compared without case and underscores, so that exports in snake case fit as well.
create function salesai.crm_fields(record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(regexp_replace(lower(regexp_replace(e.key, '^property_(hs_)?', '')), '_', '', 'g'), e.value)
    from jsonb_each(record || case jsonb_typeof(record -> 'properties') when 'object' then record -> 'properties' else '{}' end) e
    where e.value not in ('""', 'null') and jsonb_typeof(e.value) <> 'object'
$$;
comment on function salesai.crm_fields(jsonb) is 'Fields of a CRM''s record that have a value, their names in lower case without underscores and Fivetran''s prefixes';

create function salesai.crm_record(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        when 'salesforce' then jsonb_build_object(
            'external_id', coalesce(f ->> 'apiname', f ->> 'id'), 'owner', f ->> 'ownerid', 'account', f ->> 'accountid', 'email', f ->> 'email',
            'title', f ->> 'title', 'code', f ->> 'productcode', 'industry', f ->> 'industry', 'stage', f ->> 'stagename', 'amount', f ->> 'amount',
            'currency', f ->> 'currencyisocode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), ''), f ->> 'masterlabel'),
            'position', f ->> 'sortorder', 'probability', (f ->> 'defaultprobability')::real / 100, 'is_closed', f ->> 'isclosed', 'is_won', f ->> 'iswon',
            'stage_history', (select jsonb_agg(jsonb_build_object('stage', h ->> 'StageName', 'entered_at', h ->> 'CreatedDate'))
                              from jsonb_path_query(record, '$.OpportunityHistories.records[*]') h),
            'domain', salesai.domain_of(f ->> 'website'),
            'updated_at', coalesce(f ->> 'lastmodifieddate', f ->> 'systemmodstamp', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted', 'false')::boolean)
        when 'hubspot' then jsonb_build_object(
            'external_id', coalesce(f ->> 'id', f ->> 'hsobjectid', f ->> 'dealid', f ->> 'ownerid', f ->> 'stageid'),
            'owner', coalesce(f ->> 'hubspotownerid', case when f ? 'dealid' then f ->> 'ownerid' end),
            'account', coalesce(f ->> 'associatedcompanyid', record #>> '{associations,companies,results,0,id}'),
            -- An empty company is one that was taken away.
            'keeps_account', not (record ?| array['associatedcompanyid', 'property_associatedcompanyid']
                or coalesce(record -> 'properties', '{}') ? 'associatedcompanyid' or record #> '{associations,companies}' is not null),
            'email', f ->> 'email', 'title', f ->> 'jobtitle', 'code', coalesce(f ->> 'hssku', f ->> 'sku'), 'industry', f ->> 'industry',
            'stage', coalesce(f ->> 'dealstage', f ->> 'dealpipelinestageid'), 'amount', f ->> 'amount',
            'currency', f ->> 'dealcurrencycode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'dealname', f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), ''), f ->> 'email', f ->> 'label'),
            'pipeline', coalesce(f ->> 'pipeline', f ->> 'pipelineid', f ->> 'dealpipelineid'), 'position', f ->> 'displayorder',
            'probability', coalesce(f ->> 'probability', record #>> '{metadata,probability}'),
            'is_closed', coalesce(f ->> 'isclosed', record #>> '{metadata,isClosed}'),
            'is_won', f ->> 'closedwon',
            'stage_history', (select jsonb_agg(jsonb_build_object('stage', h ->> 'value', 'entered_at', h ->> 'timestamp'))
                              from jsonb_path_query(record, '$.propertiesWithHistory.dealstage[*]') h),
            'domain', coalesce(f ->> 'domain', salesai.domain_of(f ->> 'website')),
            'updated_at', coalesce(f ->> 'hslastmodifieddate', f ->> 'lastmodifieddate', f ->> 'updatedat', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'archived', f ->> 'isdeleted', f ->> 'fivetrandeleted', 'false')::boolean)
        end) || jsonb_build_object('fields', record) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_record(text, jsonb) is
    'A record of Salesforce or HubSpot, as their APIs or Fivetran''s exports give it, in the fields of salesai.ingest_crm; the source''s own stay below "fields"';

create function salesai.domain_of(website text) returns text
language sql immutable strict parallel safe
as $$ select pg_catalog.lower(pg_catalog.substring(website, '^(?:[a-zA-Z]+://)?(?:www\.)?([^/:?# ]+\.[^/:?# ]+)')) $$;
comment on function salesai.domain_of(text) is 'Host of a web address, without www';

create function salesai.csv_records(content text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'csv_records_wrapper';
comment on function salesai.csv_records(text) is
    'The records of a CSV file (RFC 4180; the first line names the fields) as an array of objects, for salesai.ingest_crm; empty fields are left out. 22023 names the line that cannot be read';

create function salesai.ingest_crm(source text, kind text, records jsonb, shape text default 'plain')
returns table (external_id text, id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    record jsonb;
begin
    if kind is null or kind not in ('team', 'rep', 'account', 'contact', 'product', 'stage', 'opportunity', 'activity', 'stage_change', 'association') then
        raise exception 'unknown kind of CRM record "%"', kind using
            errcode = '22023', hint = 'Use team, rep, account, contact, product, stage, opportunity, activity, stage_change or association.';
    end if;
    if source is null or source = '' then
        raise exception 'source must not be empty' using errcode = '22023';
    end if;
    if shape is null or shape not in ('plain', 'salesforce', 'hubspot') then
        raise exception 'unknown shape "%"', shape using errcode = '22023', hint = 'Use plain, salesforce or hubspot.';
    end if;
    if records is null or jsonb_typeof(records) <> 'array' then
        raise exception 'records must be a JSON array' using errcode = '22023';
    end if;
    for record in select value from jsonb_array_elements(records) loop
        begin
            external_id := null;
            if jsonb_typeof(record) = 'object' then
                record := case kind
                    when 'activity' then salesai.crm_activity(shape, record)
                    when 'stage_change' then salesai.crm_stage_change(shape, record)
                    when 'association' then salesai.crm_association(shape, record)
                    else salesai.crm_record(shape, record) end;
                external_id := record ->> 'external_id';
            end if;
            if kind = 'activity' then
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_activity(source, record) r;
            elsif kind = 'stage_change' then
                select r.id, r.outcome into id, outcome from salesai.ingest_stage_change(source, record) r;
            elsif kind = 'association' then
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_association(source, record) r;
            elsif coalesce(external_id, '') <> '' and (record ->> 'deleted')::boolean then
                select r.id, r.outcome into id, outcome from salesai.delete_crm_record(source, kind, record) r;
            elsif coalesce(external_id, '') = '' or coalesce(record ->> 'name', '') = '' then
                raise exception 'a record needs "external_id" and "name"' using errcode = '22023';
            else
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_record(source, kind, record) r;
            end if;
        exception
            when data_exception or integrity_constraint_violation or no_data_found then
                id := null;
                outcome := 'rejected: ' || sqlerrm;
        end;
        return next;
    end loop;
end
$$;
comment on function salesai.ingest_crm(text, text, jsonb, text) is
    'Upserts CRM records (kind: team, rep, account, contact, product, stage, opportunity, activity, stage_change, association) by external_id. outcome: inserted, updated, unchanged, deleted, stale (updated_at is before that of what is stored, which stays), or "rejected: ..." for a bad record, which blocks no other. Fields: name, updated_at, deleted; team: -; rep: email, team; account: domain, industry, owner; contact: account, email, title; product: code; stage: pipeline, position, probability, is_closed, is_won; opportunity: account, owner, stage, amount, currency, close_date, stage_history; activity (a task, event, logged call or e-mail, note; it becomes an interaction of kind crm_activity): type, subject, body (text or HTML) instead of name, occurred_at, account, opportunity, owner, contact; stage_change: opportunity, stage, entered_at; association: activity and its account, opportunity or contact, or account and opportunity or contact; "primary": false only fills what is empty, "deleted" takes it away. The last two have no external_id. shape: plain, or salesforce or hubspot for the fields of those';

-- A CRM that is loaded after the calls: salesai.store_participants looks again at whoever may be meant.
create index participant_email_index on salesai.participant (lower(email)) where rep_id is null and contact_id is null;
create index participant_name_index on salesai.participant (salesai.normalise_name(name)) where rep_id is null and contact_id is null;
create index participant_domain_index on salesai.participant (split_part(lower(email), '@', 2)) where rep_id is null and contact_id is null;

-- Owner rights: who keeps the CRM need not see each interaction.
create function salesai.match_participants() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    is_rep constant boolean := tg_table_name = 'rep';
    -- Whoever writes from the domain of the first rep who has it is a colleague.
    new_domain constant text := case
        when is_rep and not exists (
            select from salesai.rep r where r.id <> new.id and split_part(lower(r.email), '@', 2) = split_part(lower(new.email), '@', 2))
        then nullif(split_part(lower(new.email), '@', 2), '') end;
    person record;
    renamed bigint[] := '{}';
begin
    if new.deleted_at is not null or tg_op = 'UPDATE' and old.deleted_at is null
        and (old.email, old.name) is not distinct from (new.email, new.name) then
        return null;
    end if;
    for person in
        select p.interaction_id, p.name, p.email, p.side
        from salesai.participant p
        where p.rep_id is null and p.contact_id is null
          and (lower(p.email) = lower(new.email) or salesai.normalise_name(p.name) = lower(new.name)
               or split_part(lower(p.email), '@', 2) = new_domain)
        -- Somebody who writes one now matches it, and waiting for them while they wait for us would end in a deadlock.
        for update skip locked
    loop
        -- A rep is internal, whatever his domain said before.
        perform salesai.store_participants(person.interaction_id, jsonb_build_array(jsonb_build_object(
            'name', person.name, 'email', person.email, 'side', case when not is_rep then person.side end)));
        -- A bare address stands under the name that the CRM has (salesai.speakers).
        if person.name like '%@%' then
            renamed := renamed || person.interaction_id;
        end if;
    end loop;
    -- Whoever indexes one now begins anew, and who would begin waits for this commit. Without waiting here: a job that is
    -- being finished at this moment keeps the address.
    with known as materialized (
        select j.id, j.state from salesai.job j
        where j.kind = 'index' and j.interaction_id = any (renamed) and j.state <> 'failed'
        for update skip locked)
    update salesai.job j
    set state = 'pending', not_before = now(), lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    from known k where j.id = k.id and k.state = 'running';
    insert into salesai.job (interaction_id, version, lane, source)
    select i.id, i.version, 'background', i.source from salesai.interaction i
    where i.id = any (renamed) and not exists (select from salesai.job j where j.kind = 'index' and j.interaction_id = i.id)
    order by i.id
    on conflict on constraint job_interaction_id_kind_key do nothing;
    if found then
        perform salesai.wake_worker();
    end if;
    return null;
end
$$;
comment on function salesai.match_participants() is 'Matches participants who are nobody yet to a new rep or contact';

create trigger match_participants after insert or update of name, email, deleted_at on salesai.rep
    for each row execute function salesai.match_participants();
create trigger match_participants after insert or update of name, email, deleted_at on salesai.contact
    for each row execute function salesai.match_participants();

-- Which record belongs to which, where a source says so in records of their own (HubSpot).

create function salesai.crm_association(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(jsonb_build_object(
        'activity', f ->> 'engagementid', 'account', coalesce(f ->> 'companyid', f ->> 'accountid'),
        'opportunity', coalesce(f ->> 'dealid', f ->> 'opportunityid'), 'contact', f ->> 'contactid',
        -- HubSpot's own types of a primary company: contact to company, the other way round, deal to company and back. An
        -- engagement has none. Each label is a row beside, whose end is not that of the association.
        'primary', f ? 'engagementid' or f ->> 'typeid' in ('1', '2', '5', '6'),
        'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted'))) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_association(text, jsonb) is
    'A row of Fivetran''s exports of HubSpot''s associations (DEAL_COMPANY, ENGAGEMENT_DEAL and the like) in the fields of salesai.ingest_crm';

-- Whose an interaction is decides who sees it.
create function salesai.place_interaction(interaction_id bigint, account_id bigint, opportunity_id bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    place salesai.interaction;
begin
    select i.* into place from salesai.interaction i where i.id = interaction_id for update;
    if account_id is null and place.account_id is not null then
        place.owner_rep_id := null;
        place.team_id := null;
    elsif account_id is not null then
        select a.owner_rep_id, a.team_id into place.owner_rep_id, place.team_id from salesai.account a where a.id = account_id;
    end if;
    update salesai.interaction i
    set account_id = $2, opportunity_id = $3, owner_rep_id = place.owner_rep_id, team_id = place.team_id
    where i.id = $1 and (i.account_id, i.opportunity_id, i.owner_rep_id, i.team_id) is distinct from ($2, $3, place.owner_rep_id, place.team_id);
    if not found then
        return false;
    end if;
    update salesai.chunk c
    set account_id = $2, opportunity_id = $3, owner_rep_id = place.owner_rep_id, team_id = place.team_id
    where c.interaction_id = $1;
    -- Chunks are headed by their account and opportunity.
    perform salesai.enqueue(interaction_id, place.version, 'background');
    return true;
end
$$;
comment on function salesai.place_interaction(bigint, bigint, bigint) is
    'Gives an interaction and its chunks to an account, its owner and an opportunity, or takes it from them; false when nothing changes';

create function salesai.ingest_crm_association(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    account constant bigint := salesai.external_reference('account', source, record ->> 'account');
    opportunity constant bigint := salesai.external_reference('opportunity', source, record ->> 'opportunity');
    contact constant bigint := salesai.external_reference('contact', source, record ->> 'contact');
    is_deleted constant boolean := coalesce((record ->> 'deleted')::boolean, false);
    -- One of several, which takes nobody's place.
    is_secondary constant boolean := not coalesce((record ->> 'primary')::boolean, true);
    owned constant text := case when opportunity is not null then 'opportunity' else 'contact' end;
    activity salesai.interaction;
    known bigint;
    wanted bigint;
    has_changed boolean := false;
begin
    if record ? 'activity' and coalesce(account, opportunity, contact) is not null then
        select i.* into activity from salesai.interaction i
        where i.source = $1 and i.external_id = record ->> 'activity' and i.kind = 'crm_activity' for update;
        if not found then
            raise exception 'record names an unknown activity' using errcode = 'P0002', hint = 'Load activities first.';
        end if;
        id := activity.id;
        if is_deleted then
            -- What came with the deal goes with it.
            has_changed := salesai.place_interaction(id,
                case when opportunity = activity.opportunity_id
                         and activity.account_id = (select o.account_id from salesai.opportunity o where o.id = opportunity) then null
                     else nullif(activity.account_id, account) end,
                nullif(activity.opportunity_id, opportunity));
            if contact is not null then
                update salesai.participant p set contact_id = null where p.interaction_id = activity.id and p.contact_id = contact;
                has_changed := has_changed or found;
            end if;
        else
            if contact is not null and not exists (
                select from salesai.participant p where p.interaction_id = activity.id and p.contact_id = contact) then
                perform salesai.store_participants(activity.id, (
                    select jsonb_build_array(jsonb_build_object('name', c.name, 'email', c.email, 'side', 'external'))
                    from salesai.contact c where c.id = contact));
                -- A colleague who is a contact too stays a colleague.
                has_changed := exists (
                    select from salesai.participant p where p.interaction_id = activity.id and p.contact_id = contact);
            end if;
            has_changed := salesai.place_interaction(activity.id,
                coalesce(case when is_secondary then activity.account_id end, account, activity.account_id,
                    (select o.account_id from salesai.opportunity o where o.id = opportunity)),
                coalesce(case when is_secondary then activity.opportunity_id end, opportunity, activity.opportunity_id)) or has_changed;
        end if;
    elsif account is not null and coalesce(opportunity, contact) is not null then
        id := coalesce(opportunity, contact);
        execute format('select t.account_id from salesai.%I t where t.id = $1 for no key update', owned) into known using id;
        wanted := case
            when is_deleted and is_secondary then known
            when is_deleted then nullif(known, account)
            when is_secondary then coalesce(known, account)
            else account end;
        has_changed := known is distinct from wanted;
        if has_changed then
            execute format('update salesai.%I t set account_id = $2, updated_at = now() where t.id = $1', owned) using id, wanted;
            -- What was logged of the deal is its account's.
            perform salesai.place_interaction(i.id, wanted, opportunity)
            from (select i.id from salesai.interaction i
                  where i.opportunity_id = opportunity and i.kind = 'crm_activity' and i.account_id is not distinct from known
                  order by i.id for update of i) i;
        end if;
    else
        raise exception 'an association needs "activity" and what it belongs to, or "account" and "opportunity" or "contact"' using
            errcode = '22023', hint = 'Which contacts an opportunity has is not kept.';
    end if;
    outcome := case when has_changed then 'updated' else 'unchanged' end;
    return next;
end
$$;
comment on function salesai.ingest_crm_association(text, jsonb) is 'Stores which account, opportunity or contact a record belongs to; use salesai.ingest_crm';

-- Stages of deals: what a source calls them, and when a deal entered each.

create function salesai.stage_name(source text, stage text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce((select s.name from salesai.stage s where s.source = $1 and s.external_id = $2), $2) $$;
comment on function salesai.stage_name(text, text) is
    'Name of a stage of which a record may have an id only (HubSpot); the id itself where no such stage was loaded';

create function salesai.name_stage(stage_id bigint) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.opportunity o set stage = s.name
    from salesai.stage s
    where s.id = stage_id and o.source = s.source and o.properties ->> 'stage' = s.external_id and o.stage <> s.name
$$;
comment on function salesai.name_stage(bigint) is 'Gives deals that are in a stage its present name';

create view salesai.opportunity_stages with (security_invoker) as
select e.opportunity_id, salesai.stage_name(e.source, e.stage) as stage, e.entered_at,
    lead(e.entered_at) over (partition by e.opportunity_id order by e.entered_at, e.stage) as left_at
from (
    select h.opportunity_id, o.source, h.stage, h.entered_at,
        lag(h.stage) over (partition by h.opportunity_id order by h.entered_at, h.stage) as stage_before
    from salesai.opportunity_stage_history h join salesai.opportunity o on o.id = h.opportunity_id) e
where e.stage_before is distinct from e.stage;
comment on view salesai.opportunity_stages is
    'Each stay of a deal in a stage, by the stage''s present name; left_at is NULL for the last. A source that gives no history is known by when its records came';

create function salesai.crm_stage_change(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        -- OpportunityHistory, or OpportunityFieldHistory.
        when 'salesforce' then jsonb_build_object(
            'opportunity', f ->> 'opportunityid', 'entered_at', f ->> 'createddate',
            'stage', coalesce(f ->> 'stagename', case f ->> 'field' when 'StageName' then f ->> 'newvalue' end))
        -- Fivetran's DEAL_STAGE, or DEAL_PROPERTY_HISTORY.
        when 'hubspot' then jsonb_build_object(
            'opportunity', f ->> 'dealid', 'entered_at', coalesce(f ->> 'dateentered', f ->> 'timestamp'),
            'stage', case when coalesce(f ->> 'name', 'dealstage') = 'dealstage' then f ->> 'value' end)
        end) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_stage_change(text, jsonb) is
    'A row of the history of Salesforce''s opportunities or HubSpot''s deals in the fields of salesai.ingest_crm';

create function salesai.ingest_stage_change(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    stage constant text := record ->> 'stage';
    entered_at constant timestamptz := record ->> 'entered_at';
begin
    id := salesai.external_reference('opportunity', source, record ->> 'opportunity');
    if id is null or coalesce(stage, '') = '' or entered_at is null then
        raise exception 'a stage change needs "opportunity", "stage" and "entered_at"' using errcode = '22023';
    end if;
    insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at) values (id, stage, entered_at) on conflict do nothing;
    outcome := case when found then 'inserted' else 'unchanged' end;
    return next;
end
$$;
comment on function salesai.ingest_stage_change(text, jsonb) is 'Stores one entry of a deal''s stage history; use salesai.ingest_crm';

-- What a CRM logs of the work of its users (tasks, events, calls, e-mails, notes), as interactions.

create function salesai.crm_activity(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        -- The first three characters of an id say what it names.
        when 'salesforce' then jsonb_build_object(
            'external_id', f ->> 'id', 'type', lower(coalesce(f ->> 'eventsubtype', f ->> 'tasksubtype', f ->> 'type')),
            'subject', f ->> 'subject', 'body', f ->> 'description',
            'occurred_at', coalesce(f ->> 'activitydatetime', f ->> 'startdatetime', f ->> 'activitydate', f ->> 'createddate'),
            'account', coalesce(f ->> 'accountid', case when f ->> 'whatid' like '001%' then f ->> 'whatid' end),
            'opportunity', case when f ->> 'whatid' like '006%' then f ->> 'whatid' end,
            'contact', case when f ->> 'whoid' like '003%' then f ->> 'whoid' end, 'owner', f ->> 'ownerid',
            'updated_at', coalesce(f ->> 'lastmodifieddate', f ->> 'systemmodstamp', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted'))
        when 'hubspot' then jsonb_build_object(
            'external_id', coalesce(f ->> 'id', f ->> 'engagementid', f ->> 'hsobjectid'), 'type', lower(f ->> 'type'),
            'subject', coalesce(f ->> 'title', f ->> 'hsmeetingtitle', f ->> 'meetingtitle', f ->> 'hscalltitle', f ->> 'calltitle',
                f ->> 'hstasksubject', f ->> 'tasksubject', f ->> 'hsemailsubject', f ->> 'emailsubject'),
            'body', coalesce(f ->> 'body', f ->> 'hsnotebody', f ->> 'notebody', f ->> 'hscallbody', f ->> 'callbody',
                f ->> 'hsmeetingbody', f ->> 'meetingbody', f ->> 'hstaskbody', f ->> 'taskbody', f ->> 'hsemailtext', f ->> 'emailtext'),
            'occurred_at', coalesce(f ->> 'hstimestamp', f ->> 'timestamp', f ->> 'starttime', f ->> 'createdat', f ->> 'createdate'),
            'account', record #>> '{associations,companies,results,0,id}', 'keeps_account', record #> '{associations,companies}' is null,
            'keeps_opportunity', record #> '{associations,deals}' is null,
            'opportunity', record #>> '{associations,deals,results,0,id}',
            'contact', record #>> '{associations,contacts,results,0,id}', 'owner', f ->> 'hubspotownerid',
            'updated_at', coalesce(f ->> 'hslastmodifieddate', f ->> 'lastmodifieddate', f ->> 'updatedat', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'archived', f ->> 'fivetrandeleted'))
        end) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_activity(text, jsonb) is
    'An activity of Salesforce (Task, Event) or HubSpot (engagement), as their APIs or Fivetran''s exports give it, in the fields of salesai.ingest_crm';

create function salesai.ingest_crm_activity(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    external_id constant text := record ->> 'external_id';
    changed_at timestamptz := record ->> 'updated_at';
    is_deleted constant boolean := coalesce((record ->> 'deleted')::boolean, false);
    -- One that was deleted is a version without a text, which keeps older copies out.
    body constant text := case when is_deleted then '' else coalesce(nullif(record ->> 'body', ''), record ->> 'subject', '') end;
    known salesai.interaction;
    place salesai.interaction;
    named_opportunity bigint;
    has_moved boolean := false;
    people jsonb;
begin
    if coalesce(external_id, '') = '' or body !~ '\S' and not is_deleted then
        raise exception 'an activity needs "external_id" and "subject" or "body"' using errcode = '22023';
    end if;
    select i.* into known from salesai.interaction i
    where i.source = $1 and i.external_id = record ->> 'external_id' and i.kind = 'crm_activity';
    if is_deleted then
        changed_at := coalesce(changed_at, greatest(now(), (known.properties ->> 'updated_at')::timestamptz));
    end if;
    if changed_at < (known.properties ->> 'updated_at')::timestamptz then
        return query values (known.id, 'stale');
        return;
    end if;
    -- Leads, groups and who left are in no export of users and contacts.
    select coalesce(jsonb_agg(p.person), '[]') into people from (
        select jsonb_build_object('name', r.name, 'email', r.email, 'side', 'internal') as person
        from salesai.rep r where r.source = $1 and r.external_id = record ->> 'owner'
        union all
        select jsonb_build_object('name', c.name, 'email', c.email, 'side', 'external')
        from salesai.contact c where c.source = $1 and c.external_id = record ->> 'contact') p;
    id := salesai.store_interaction(
        jsonb_build_object(
            'kind', 'crm_activity', 'source', source, 'external_id', external_id,
            'occurred_at', coalesce((record ->> 'occurred_at')::timestamptz, known.occurred_at, changed_at, now()),
            'subject', case when not is_deleted then record ->> 'subject' end,
            'properties', jsonb_strip_nulls(jsonb_build_object('type', record -> 'type', 'updated_at', changed_at, 'deleted', is_deleted)),
            'participants', people, 'media_type', case when body ~* '</?(a|b|br|body|div|em|h[1-6]|html|i|li|ol|p|span|strong|table|td|tr|u|ul)(\s[^<>]*)?/?>' then 'text/html' else 'text/plain' end,
            'lane', 'background'),
        convert_to(body, 'UTF8'));
    select i.* into place from salesai.interaction i where i.id = ingest_crm_activity.id for update;
    if changed_at < (place.properties ->> 'updated_at')::timestamptz then
        -- A newer copy was stored meanwhile.
        return query values (place.id, 'stale');
        return;
    end if;
    if changed_at is distinct from (place.properties ->> 'updated_at')::timestamptz then
        update salesai.interaction i set properties = i.properties || jsonb_build_object('updated_at', coalesce(changed_at, now()))
        where i.id = place.id;
    end if;
    -- The references of one that is gone may be gone too.
    if not is_deleted then
        named_opportunity := salesai.external_reference('opportunity', $1, record ->> 'opportunity');
        place.account_id := coalesce(salesai.external_reference('account', $1, record ->> 'account'),
            (select o.account_id from salesai.opportunity o where o.id = named_opportunity),
            case when (record -> 'keeps_account')::boolean then place.account_id end);
        place.opportunity_id := coalesce(named_opportunity,
            case when (record -> 'keeps_opportunity')::boolean then place.opportunity_id end);
        has_moved := salesai.place_interaction(place.id, place.account_id, place.opportunity_id) and known.id is not null;
    end if;
    outcome := case
        when is_deleted and known.id is not null and not coalesce((known.properties ->> 'deleted')::boolean, false) then 'deleted'
        when is_deleted then 'unchanged'
        when known.id is null then 'inserted'
        when known.version = place.version and not has_moved then 'unchanged'
        else 'updated'
    end;
    return next;
end
$$;
comment on function salesai.ingest_crm_activity(text, jsonb) is 'Stores one activity of a CRM; use salesai.ingest_crm';

-- Versions of all embeddings. A new set is filled and indexed while the active one serves; then one transaction
-- switches. Writers of chunks hold the lock of this file shared, who begins or switches sets holds it alone. It is taken
-- before any other, and what was read before it does not count.

-- A lock of the table, and not an advisory one, which every role could take and keep.
create function salesai.lock_embedding_sets(alone boolean) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'embedding sets can be changed at isolation level read committed only' using errcode = '25001',
            hint = 'What was written while this waited for its lock has to be seen.';
    end if;
    if alone then
        lock table salesai.embedding_set in exclusive mode;
    else
        lock table salesai.embedding_set in row share mode;
    end if;
end
$$;
comment on function salesai.lock_embedding_sets(boolean) is 'Lock, until the transaction ends, on which embedding sets there are';

-- The table is no extension member, so that pg_dump carries it. Its index comes when it is filled; an empty set
-- is filled row by row, and so has it from the start.
create function salesai.create_embedding_set(
    model text, model_sha256 text, dimensions integer, template text default null, indexed boolean default true) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    made salesai.embedding_set;
    table_name text;
begin
    insert into salesai.embedding_set (model, model_sha256, dimensions, template, element, hnsw_m, hnsw_ef_construction)
    values (model, model_sha256, dimensions, coalesce(template, salesai.default_template()),
            current_setting('salesai.embedding_element'), current_setting('salesai.hnsw_m')::integer,
            current_setting('salesai.hnsw_ef_construction')::integer)
    returning * into made;
    table_name := 'embedding_' || made.id;
    -- Left by an extension that was dropped, whose member it was not.
    execute format('drop table if exists salesai.%I', table_name);
    execute format(
        'create table salesai.%I (
             chunk_id bigint primary key references salesai.chunk on delete cascade,
             embedding @extschema:vector@.%I(%s) not null)', table_name, made.element, dimensions);
    if current_setting('salesai.embedding_index') = 'codes' and salesai.can_have_codes(dimensions) then
        perform salesai.create_embedding_codes(made.id);
    elsif indexed then
        execute salesai.embedding_index_statement(made.id, online => false);
    end if;
    execute format('alter table salesai.%I enable row level security, force row level security', table_name);
    execute format(
        'create policy visible on salesai.%I
             using (exists (select from salesai.chunk c where c.id = chunk_id))
             with check (salesai.writes())', table_name);
    -- Search reads with the rights of the worker and then asks for each chunk as the caller.
    execute format('create policy worker on salesai.%I for select to salesai_worker using (true)', table_name);
    execute format(
        'grant select on salesai.%I to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
         grant select, insert, update, delete on salesai.%1$I to salesai_worker', table_name);
    execute format('comment on table salesai.%I is %L', table_name,
        format('Embeddings of set %s: %s, %s dimensions', made.id, model, dimensions));
    return made.id;
end
$$;
comment on function salesai.create_embedding_set(text, text, integer, text, boolean) is
    'Makes an embedding set in state "building" with its own table; element and index are the settings salesai.embedding_element, embedding_index, hnsw_m and hnsw_ef_construction. Vectors of fewer than 32 dimensions or more than 1,920 have no codes: their index is hnsw';

-- Search reads with the rights of the worker and then asks for each chunk as the caller.
do $do$
declare
    embedding_table regclass;
begin
    for embedding_table in select to_regclass('salesai.embedding_' || s.id) from salesai.embedding_set s loop
        execute format('create policy worker on %s for select to salesai_worker using (true)', embedding_table);
    end loop;
end
$do$;

create function salesai.embedding_index_statement(set_id bigint, online boolean) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'create index %s %I on salesai.%I using hnsw (embedding @extschema:vector@.%I) with (m = %s, ef_construction = %s)',
        case when online then 'concurrently' else '' end, 'embedding_' || s.id || '_index', 'embedding_' || s.id,
        s.element || '_cosine_ops', s.hnsw_m, s.hnsw_ef_construction)
    from salesai.embedding_set s where s.id = set_id
$$;
comment on function salesai.embedding_index_statement(bigint, boolean) is 'The statement that makes the index of an embedding set';

-- The statements that a worker runs on their own, outside any transaction: an index half built goes first.
create function salesai.embedding_index_steps(set_id bigint) returns text[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select case
        -- What waits is read one by one, and a worker codes it soon.
        when s.index_method = 'codes' and salesai.waiting_embeddings(set_id, 4096) < 4096 then '{}'
        when s.index_method = 'codes' then array[format('select salesai.code_embeddings(%s)', set_id)]
        when i.indisvalid then '{}'
        when i.indisvalid is null then array[salesai.embedding_index_statement(set_id, online => true)]
        else array[format('drop index concurrently salesai.%I', 'embedding_' || set_id || '_index'),
                   salesai.embedding_index_statement(set_id, online => true)] end
    from salesai.embedding_set s
    left join pg_index i on i.indexrelid = to_regclass(format('salesai.%I', 'embedding_' || set_id || '_index'))
    where s.id = set_id
$$;
comment on function salesai.embedding_index_steps(bigint) is 'What is still to be run for a valid index of an embedding set';

-- For servers without a worker: inside the caller's transaction, which then holds off changes of chunks.
create function salesai.build_embedding_index(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if (select s.index_method from salesai.embedding_set s where s.id = set_id) = 'codes' then
        perform salesai.code_embeddings(set_id);
        return;
    end if;
    if to_regclass(format('salesai.%I', 'embedding_' || set_id || '_index')) is not null then
        if salesai.embedding_index_steps(set_id) = '{}' then
            return;
        end if;
        execute format('drop index salesai.%I', 'embedding_' || set_id || '_index');
    end if;
    execute salesai.embedding_index_statement(set_id, online => false);
end
$$;
comment on function salesai.build_embedding_index(bigint) is 'Makes the index of an embedding set in this transaction, if it lacks one';

-- For sets of before 0.3.0, and those that were made with salesai.embedding_index = hnsw.
create function salesai.use_embedding_codes(set_id bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    indexed constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
    coded bigint;
begin
    if indexed.index_method = 'codes' then
        raise exception 'embedding set % has codes', set_id using errcode = '55000';
    end if;
    if not salesai.can_have_codes(indexed.dimensions) then
        raise exception 'embedding set % cannot have codes', set_id using
            errcode = '55000', detail = format('Its vectors have %s dimensions; codes are of 32 to 1,920.', indexed.dimensions);
    end if;
    perform salesai.check_index_is_idle(set_id);
    perform salesai.create_embedding_codes(set_id);
    coded := salesai.code_embeddings(set_id);
    execute format('drop index if exists salesai.%I', 'embedding_' || set_id || '_index');
    return coded;
end
$$;
comment on function salesai.use_embedding_codes(bigint) is
    'Gives an embedding set codes in the place of its HNSW index, in one transaction, at whose end the index goes: repeat it when a long query held that. Writers of chunks wait meanwhile. Returns how many vectors';

create or replace function salesai.active_embedding_set(model text, model_sha256 text, dimensions integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    active salesai.embedding_set;
begin
    select * into active from salesai.embedding_set where state = 'active';
    if not found then
        perform salesai.switch_embedding_set(salesai.create_embedding_set(model, model_sha256, dimensions));
        select * into active from salesai.embedding_set where state = 'active';
    end if;
    if active.model_sha256 <> model_sha256 then
        raise exception 'the sidecar''s embedding model is not the one of the active embedding set' using
            errcode = '55000',
            detail = format('The set was made by "%s" (%s), the sidecar runs "%s" (%s).',
                            active.model, left(active.model_sha256, 12), model, left(model_sha256, 12)),
            hint = 'Start the sidecar with the weights of the active set. To change to others, serve them under a name of their own and call salesai.reembed.';
    end if;
    return active.id;
end
$$;
comment on function salesai.active_embedding_set(text, text, integer) is
    'Id of the active set, made on first use, for which the caller holds the lock alone; an error when it was made by other weights';

create function salesai.switch_embedding_set(set_id bigint) returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    update salesai.embedding_set s set state = 'retired' where s.state = 'active' and s.id <> set_id;
    update salesai.embedding_set s
    set state = 'active', activated_at = now(), switch_when_complete = false where s.id = set_id;
$$;
comment on function salesai.switch_embedding_set(bigint) is 'Makes this set the one that search uses; the caller holds the lock and has checked that the set is complete';

create function salesai.missing_embeddings(set_id bigint) returns setof bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select c.id from salesai.chunk c where not exists (select from salesai.%I e where e.chunk_id = c.id) order by c.id',
        'embedding_' || set_id);
end
$$;
comment on function salesai.missing_embeddings(bigint) is 'Chunks that have no embedding in this set';

-- 256 chunks a job: a few requests to the sidecar, and few jobs for many chunks.
create function salesai.enqueue_missing_embeddings(set_id bigint) returns bigint
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    update salesai.embedding_set s set filling_since = now(), filled_before = salesai.embedding_count(s.id) where s.id = set_id;
    -- After all others: it waits for them.
    insert into salesai.job (kind, version, lane, embedding_set_id)
    select 'build_index', 0, 'maintenance', set_id
    where not exists (select from salesai.job j where j.embedding_set_id = set_id and j.kind = 'build_index');
    select salesai.wake_worker();
    with queued as (
        insert into salesai.job (kind, version, lane, embedding_set_id, first_chunk_id, last_chunk_id)
        select 'embed', 0, 'background', set_id, min(m.id), max(m.id)
        from salesai.missing_embeddings(set_id) with ordinality m (id, number)
        group by (m.number - 1) / 256
        order by min(m.id)
        returning id)
    select count(*) from queued;
$$;
comment on function salesai.enqueue_missing_embeddings(bigint) is 'Queues what an embedding set lacks, and its index after that; returns how many ranges of chunks';

-- Writers of chunks queue behind who waits for the lock alone, here and below: so nobody waits for it long.
create function salesai.reembed(model text default null, template text default null, activate boolean default true) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    served jsonb;
    building salesai.embedding_set;
    unknown text;
    set_id bigint;
begin
    select p[1] into unknown from regexp_matches(template, '\{([^{}]*)\}', 'g') p
    where p[1] not in ('heading', 'date', 'kind', 'content');
    if unknown is not null or position('{content}' in template) = 0 then
        raise exception 'bad template' using errcode = '22023',
            detail = coalesce(format('It has the unknown placeholder {%s}.', unknown), 'It lacks {content}.'),
            hint = 'Use {heading}, {date}, {kind} and {content}.';
    end if;
    served := salesai.served_embedding_model(model);
    perform salesai.lock_embedding_sets(alone => true);
    select * into building from salesai.embedding_set s where s.state in ('building', 'ready');
    if found then
        raise exception 'embedding set % is not done', building.id using errcode = '55000',
            detail = format('It is %s, of model "%s".', building.state, building.model),
            hint = format('Wait until it is active, or drop it: select salesai.drop_embedding_set(%s).', building.id);
    end if;
    set_id := salesai.create_embedding_set(
        served ->> 'name', served ->> 'sha256', (served ->> 'dimensions')::integer, template, indexed => false);
    update salesai.embedding_set s set switch_when_complete = activate where s.id = set_id;
    perform salesai.enqueue_missing_embeddings(set_id);
    return set_id;
end
$$;
comment on function salesai.reembed(text, text, boolean) is
    'Embeds everything anew, by the sidecar''s default embedding model or the one named, while the active set serves; when the new set is complete and indexed, one transaction makes it active (activate => false: it waits as "ready"). Returns its id; salesai.embedding_sets shows how far it is, salesai.activate_embedding_set goes back';

create function salesai.served_embedding_model(model text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    sidecar jsonb := salesai.sidecar_state();
    served jsonb;
begin
    if sidecar ->> 'error' is not null then
        raise exception '%', sidecar ->> 'error' using errcode = '58000';
    end if;
    select m into served from jsonb_array_elements(sidecar -> 'models') m
    where m ->> 'kind' = 'embedding' and case when model is null then (m ->> 'is_default')::boolean else m ->> 'name' = model end;
    if served is null then
        raise exception 'the sidecar serves no embedding model%', coalesce(format(' "%s"', model), '') using
            errcode = '42704', hint = 'salesai.sidecar_status lists what it has.';
    end if;
    return served;
end
$$;
comment on function salesai.served_embedding_model(text) is 'What the sidecar says of an embedding model, of the default one for NULL; an error when it serves none';

create function salesai.locked_embedding_set(set_id bigint) returns salesai.embedding_set
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted salesai.embedding_set;
begin
    perform salesai.lock_embedding_sets(alone => true);
    select * into wanted from salesai.embedding_set s where s.id = set_id;
    if not found then
        raise exception 'embedding set % does not exist', set_id using errcode = 'P0002',
            hint = 'salesai.embedding_sets lists them.';
    end if;
    return wanted;
end
$$;
comment on function salesai.locked_embedding_set(bigint) is 'An embedding set, and the lock on which there are; P0002 when it does not exist';

-- Gaps: chunks that the set's model refuses. Dense search does not find them in it; lexical search does.
create function salesai.activate_embedding_set(set_id bigint, accept_gaps boolean default false) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    wanted constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
    -- What a retired set lacks is what came since: that is embedded first.
    accepts constant boolean := accept_gaps and wanted.state <> 'retired';
begin
    if wanted.state = 'active' then
        return wanted.state;
    end if;
    if accepts then
        delete from salesai.job_error e using salesai.job j
        where j.embedding_set_id = set_id and j.kind = 'embed' and j.state = 'failed' and e.job_id = j.id;
        delete from salesai.job j where j.embedding_set_id = set_id and j.kind = 'embed' and j.state = 'failed';
    end if;
    if salesai.embedding_index_steps(set_id) = '{}' and (
        not exists (select from salesai.missing_embeddings(set_id))
        or accepts and not exists (select from salesai.job j where j.embedding_set_id = set_id and j.kind = 'embed')) then
        delete from salesai.job j where j.embedding_set_id = set_id;
        perform salesai.switch_embedding_set(set_id);
        return 'active';
    end if;
    update salesai.embedding_set s set state = 'building', switch_when_complete = true where s.id = set_id;
    if accepts and exists (select from salesai.job j where j.embedding_set_id = set_id) then
        -- It goes on without what failed: its index waits for nothing else.
        update salesai.job j set not_before = now() where j.embedding_set_id = set_id and j.state = 'pending';
        perform salesai.wake_worker();
        return 'building';
    end if;
    -- Jobs that are under way fail to find themselves, and what they did counts.
    delete from salesai.job j where j.embedding_set_id = set_id;
    perform salesai.enqueue_missing_embeddings(set_id);
    return 'building';
end
$$;
comment on function salesai.activate_embedding_set(bigint, boolean) is
    'Makes this set the one that search uses: at once when it is complete, else as soon as the chunks that it lacks are embedded. Returns its state then: active or building. Goes back to a retired set as well. accept_gaps: without the chunks that its model refused';

create function salesai.drop_embedding_set(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    dropped constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
begin
    if dropped.state = 'active' then
        raise exception 'embedding set % is active', set_id using errcode = '55006',
            hint = 'Make another one active first.';
    end if;
    -- The drop would wait for it, and all who write chunks for the drop.
    perform salesai.check_index_is_idle(set_id);
    delete from salesai.job_error e using salesai.job j where j.embedding_set_id = set_id and e.job_id = j.id;
    delete from salesai.embedding_set s where s.id = set_id;
    delete from salesai.embedding_delta d where d.set_id = drop_embedding_set.set_id;
    execute format('drop table if exists salesai.%I, salesai.%I', 'embedding_' || set_id || '_codes', 'embedding_' || set_id);
end
$$;
comment on function salesai.drop_embedding_set(bigint) is 'Deletes a set that is not active, with its vectors and jobs';

-- Owner rights: these columns of other roles' sessions are hidden.
create function salesai.index_build_progress(table_name text) returns real
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Most of the time goes into the graph; then it is compared with what changed meanwhile.
    select (case when p.phase not like 'building%' and p.phase like '%valid%' then 0.95
                 else 0.9 * greatest(p.blocks_done::real / nullif(p.blocks_total, 0), p.tuples_done::real / nullif(p.tuples_total, 0), 0)
            end)::real
    from pg_stat_progress_create_index p
    where p.datname = current_database() and p.relid = to_regclass(format('salesai.%I', table_name))
    limit 1
$$;
comment on function salesai.index_build_progress(text) is 'Share of an index build that is done; NULL when none runs';

create function salesai.check_index_is_idle(set_id bigint) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if salesai.index_build_progress('embedding_' || set_id) is not null then
        raise exception 'the index of embedding set % is being built', set_id using errcode = '55006',
            hint = 'Wait for it, or end the index builder: select pg_terminate_backend(pid) from pg_stat_activity where backend_type = ''pg_salesai index builder''.';
    end if;
end
$$;
comment on function salesai.check_index_is_idle(bigint) is 'An error while the index of an embedding set is being built';

create function salesai.embedding_count(set_id bigint) returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    counted bigint;
begin
    execute format('select count(*) from salesai.%I', 'embedding_' || set_id) into counted;
    return counted;
end
$$;
comment on function salesai.embedding_count(bigint) is 'Vectors in an embedding set';

-- Queue operations: how jobs come in, whose turn it is, and what becomes of those that fail. Each is a short transaction.

create function salesai.enqueue(interaction_id bigint, version integer, lane text default 'interactive') returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.job as j (interaction_id, version, lane, source)
    select i.id, $2, $3, i.source from salesai.interaction i where i.id = $1
    on conflict on constraint job_interaction_id_kind_key do update
        set version = excluded.version, lane = excluded.lane, state = 'pending', attempts = 0, losses = 0, not_before = now(),
            created_at = now(), lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null;
    select salesai.wake_worker();
$$;
comment on function salesai.enqueue(bigint, integer, text) is 'Queues the indexing of this version; a job of an older version is replaced';

-- Adds up what lies there, at most so many rows; rows that others add up just now are left to them.
create function salesai.add_up_job_counts(rows_max integer default 1000) returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    with taken as (
        delete from salesai.job_count c
        where c.ctid in (select t.ctid from salesai.job_count t
                         -- A few rows are soon read, and adding them up leaves as many dead ones.
                         where (select count(*) from (select from salesai.job_count limit 65) few) > 64
                           -- Elsewhere a row that another has added up since is an error.
                           and current_setting('transaction_isolation') = 'read committed'
                         limit rows_max for update skip locked)
        returning c.source, c.lane, c.state, c.delta)
    insert into salesai.job_count (source, lane, state, delta)
    select t.source, t.lane, t.state, sum(t.delta) from taken t group by 1, 2, 3 having sum(t.delta) <> 0
$$;
comment on function salesai.add_up_job_counts(integer) is 'Makes few rows of many in salesai.job_count';

create function salesai.recount_jobs() returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    lock table salesai.job in share mode;
    -- Nor may anybody add up meanwhile.
    lock table salesai.job_count in share row exclusive mode;
    delete from salesai.job_count;
    insert into salesai.job_count (source, lane, state, delta)
    select j.source, j.lane, j.state, count(*) from salesai.job j group by 1, 2, 3;
$$;
comment on function salesai.recount_jobs() is 'Counts the jobs anew, after a restore or another change that fired no triggers';

create function salesai.check_queue_room() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    pages constant bigint := pg_relation_size('salesai.job_count') / current_setting('block_size')::bigint;
    jobs_max bigint;
    jobs bigint;
begin
    -- Where no worker does it: a job makes about three rows, and this adds up a thousand.
    if random() < 0.003 then
        perform salesai.add_up_job_counts();
    end if;
    -- Rows of a large transaction go only when it ends: the more there are, the fewer callers look, so that each reads
    -- a few pages on the average.
    if random() >= greatest(8.0 / greatest(pages, 8), 0.005) then
        return;
    end if;
    -- A call into the library, so that its settings are known.
    perform salesai.library_version();
    jobs_max := current_setting('salesai.queue_limit');
    if jobs_max = 0 then
        return;
    end if;
    select sum(c.delta) into jobs from salesai.job_count c where c.state <> 'failed';
    if jobs >= jobs_max then
        raise exception 'the queue is full' using errcode = '53400',
            detail = format('%s jobs wait; salesai.queue_limit is %s.', jobs, jobs_max),
            hint = 'Nothing was stored. Send it again later: salesai.source_status shows which source fills the queue and how long it takes.';
    end if;
end
$$;
comment on function salesai.check_queue_room() is 'Refuses new work while salesai.queue_limit jobs wait; within a large load some rows late';

-- A job of each source in turn, whichever comes first by chance, so that none is always the last. It reads as many rows
-- as it returns for each source and lane, however long the queue is: those are found by leaping through the index.
create function salesai.due_jobs(jobs_max integer, lanes text[]) returns table (job_id bigint, rank bigint)
language sql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
    with recursive class as (
        (select j.lane, j.priority, j.source from salesai.job j
         where j.state = 'pending' order by j.lane, j.priority, j.source limit 1)
        union all
        select n.lane, n.priority, n.source
        from class c
        cross join lateral (
            select j.lane, j.priority, j.source from salesai.job j
            where j.state = 'pending' and (j.lane, j.priority, j.source) > (c.lane, c.priority, c.source)
            order by j.lane, j.priority, j.source limit 1) n)
    select d.id, row_number() over (order by c.lane <> 'interactive', c.lane = 'maintenance', c.priority desc, d.turn, c.chance)
    from (select *, random() as chance from class) c
    cross join lateral (
        select f.id, row_number() over (order by f.not_before, f.id) as turn
        from (select j.id, j.not_before from salesai.job j
              where j.state = 'pending' and j.lane = c.lane and j.priority = c.priority and j.source = c.source
                and j.not_before <= clock_timestamp()
              order by j.not_before, j.id limit jobs_max) f) d
    where c.lane = any (lanes)
      and not exists (select from salesai.queue_pause p where p.source = '' or p.source = c.source)
    order by 2
    limit jobs_max
$$;
comment on function salesai.due_jobs(integer, text[]) is 'The next jobs to be done: interactive ones first, then by priority, then of each source in turn';

create function salesai.has_due_jobs(lanes text[]) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from salesai.job j where j.state = 'running' and j.lane = any (lanes))
        or exists (select from salesai.due_jobs(1, lanes))
$$;
comment on function salesai.has_due_jobs(text[]) is 'Whether salesai.claim_jobs may find something';

create function salesai.claim_jobs(
    jobs_max integer, lease_ms integer, lanes text[] default '{interactive,background,maintenance}')
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint, losses integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    lost salesai.job;
begin
    for lost in
        select * from salesai.job j
        where j.state = 'running' and j.lane = any (lanes) and salesai.is_lost_too_often(j.losses + 1)
        order by j.interaction_id
    loop
        if salesai.is_lost(lost.lease_expires_at, lost.holder_pid, lost.holder_started_at) then
            perform salesai.fail_lost_job(lost.id, lost.lease_token);
        end if;
    end loop;
    return query select * from salesai.claim_among(jobs_max, lease_ms, lanes, 4 * jobs_max);
    if not found then
        -- All of those may be another session's, which has not committed yet.
        return query select * from salesai.claim_among(jobs_max, lease_ms, lanes, 64 * jobs_max);
    end if;
end
$$;
comment on function salesai.claim_jobs(integer, integer, text[]) is 'Leases due jobs to this backend';

-- A dead holder's lease need not run out, and who claims has nothing under way. It takes columns, because a row that
-- another has just claimed is looked at again as it is then.
create function salesai.is_lost(lease_expires_at timestamptz, holder_pid integer, holder_started_at timestamptz) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select $1 < clock_timestamp() or $2 = pg_backend_pid()
        or not exists (select from salesai.live_backends() b where b.pid = $2 and b.backend_start = $3)
$$;
comment on function salesai.is_lost(timestamptz, integer, timestamptz) is 'Whether a running job with this lease has no holder any more';

create function salesai.claim_among(jobs_max integer, lease_ms integer, lanes text[], window_max integer)
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint, losses integer)
language sql
set search_path = pg_catalog, pg_temp
as $$
    with lost as materialized (
        select j.id
        from salesai.job j
        where j.state = 'running' and j.lane = any (lanes) and salesai.is_lost(j.lease_expires_at, j.holder_pid, j.holder_started_at)
        -- One of them may be what its holder died of: the others are not there when it happens again.
        order by j.losses, j.id
        limit 1
        for update skip locked),
    due as materialized (
        select j.id
        from salesai.due_jobs(window_max, lanes) d
        join salesai.job j on j.id = d.job_id
        where j.state = 'pending'
        order by d.rank
        limit jobs_max
        for update of j skip locked)
    update salesai.job j
    set state = 'running', lease_token = gen_random_uuid(), losses = j.losses + (j.state = 'running')::integer,
        lease_expires_at = case j.kind
            -- As long as it takes; it ends with its holder.
            when 'build_index' then 'infinity'
            else clock_timestamp() + make_interval(secs => lease_ms / 1000.0) end,
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from (select l.id from lost l union all select d.id from due d limit jobs_max) claimed
    where j.id = claimed.id
    returning j.id, j.interaction_id, j.version, j.lease_token, j.kind, j.embedding_set_id, j.losses
$$;
comment on function salesai.claim_among(integer, integer, text[], integer) is 'Leases jobs that lost their holder, then some of the next window_max';

-- Called between requests to the sidecar: however many a job needs, its lease outlasts them.
create function salesai.renew_leases(lease_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j set lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
    -- A row that somebody changes now is being replaced.
    where j.id in (select m.id from salesai.job m
                   where m.state = 'running' and m.holder_pid = pg_backend_pid() and m.lease_expires_at <> 'infinity'
                   for update skip locked)
$$;
comment on function salesai.renew_leases(integer) is 'Renews the leases of this backend';

create function salesai.pause(source text default null) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$ insert into salesai.queue_pause (source) values (coalesce($1, '')) on conflict do nothing $$;
comment on function salesai.pause(text) is 'Starts no job of this source any more, or none at all; what runs is finished, and ingestion goes on';

create function salesai.resume(source text default null) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from salesai.queue_pause p where $1 is null or p.source = $1;
    select salesai.wake_worker();
$$;
comment on function salesai.resume(text) is 'Takes salesai.pause back: for this source, or for all';

-- The interaction's row is locked before the job's, as ingestion does it.
create function salesai.lock_interaction(job_id bigint) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select from salesai.interaction i
    where i.id = (select j.interaction_id from salesai.job j where j.id = $1)
    for update
$$;
comment on function salesai.lock_interaction(bigint) is 'Locks the interaction of a job';

-- Overload, a sidecar that is down: not the record's fault, so no attempt is consumed.
create or replace function salesai.release_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j
    set state = 'pending', lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null,
        -- Not before the time that was asked for, and not all together.
        not_before = clock_timestamp() + make_interval(secs => (1 + random() / 2) * retry_ms / 1000.0)
    where j.id = $1 and j.lease_token = $2
$$;
comment on function salesai.release_job(bigint, uuid, integer) is 'Gives a leased job back without consuming an attempt';

create function salesai.is_lost_too_often(losses integer) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select losses >= 10 $$;
comment on function salesai.is_lost_too_often(integer) is 'Whether a job fails because its worker or the sidecar was lost with it so often';

create function salesai.fail_lost_job(job_id bigint, lease_token uuid) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select salesai.fail_job(job_id, lease_token, 'record_permanent', 'run',
        'its worker or the inference sidecar died or was too slow ten times')
$$;
comment on function salesai.fail_lost_job(bigint, uuid) is 'Fails a job whose worker or sidecar was lost too often, so that others get their turn';

-- It waits twice as long each time, a quarter of an hour in all, while others go on; from now on it is worked on alone.
create function salesai.lose_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses integer;
begin
    perform salesai.lock_interaction(job_id);
    update salesai.job j set losses = j.losses + 1 where j.id = $1 and j.lease_token = $2 returning j.losses into losses;
    if salesai.is_lost_too_often(losses) then
        perform salesai.fail_lost_job(job_id, lease_token);
    elsif losses is not null then
        perform salesai.release_job(job_id, lease_token, retry_ms * (2 ^ (losses - 1))::integer);
    end if;
end
$$;
comment on function salesai.lose_job(bigint, uuid, integer) is 'Gives a leased job back that the sidecar died of, or was too slow for, as far as anybody knows';

create or replace function salesai.fail_job(job_id bigint, lease_token uuid, class text, step text, message text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    attempts_max constant integer := 5;
    is_own_fault constant boolean := class like 'record%';
    -- Half to one and a half of it, so that what failed together is not tried again together.
    pause_s constant double precision := random() + 0.5;
    failed salesai.job;
begin
    perform salesai.lock_interaction(job_id);
    update salesai.job j
    set attempts = j.attempts + is_own_fault::integer,
        state = case when class = 'record_permanent' or is_own_fault and j.attempts + 1 >= attempts_max then 'failed' else 'pending' end,
        not_before = clock_timestamp() + make_interval(secs => pause_s * case class
            when 'pipeline_temporary' then 5 when 'pipeline_permanent' then 30 else 2 ^ j.attempts end),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where j.id = $1 and j.lease_token = $2
    returning * into failed;
    if not found then
        return;
    end if;
    -- What waits for somebody is said once.
    if not is_own_fault and exists (
        select from salesai.job_error e
        where e.job_id = $1 and e.class = fail_job.class and e.step = fail_job.step and e.message = fail_job.message) then
        return;
    end if;
    insert into salesai.job_error (interaction_id, kind, class, step, message, attempt, job_id)
    values (failed.interaction_id, failed.kind, class, step, message, failed.attempts, failed.id);
    if failed.state = 'failed' then
        update salesai.interaction i set state = 'failed' where i.id = failed.interaction_id;
    end if;
end
$$;
comment on function salesai.fail_job(bigint, uuid, text, text, text) is
    'Records a failure. record_temporary is tried again after about 1, 2, 4 and 8 s, then fails; record_permanent fails at once; pipeline_temporary is tried again after about 5 s, pipeline_permanent after 30 s, without using up an attempt. A failed job stays visible';

create function salesai.retry_errors(
    source text default null, class text default null, step text default null, interaction_id bigint default null) returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
    -- Interactions before their jobs, as everywhere.
    select from salesai.interaction i
    where i.id in (select j.interaction_id from salesai.job j
                   where (j.state = 'failed' or j.state = 'pending' and j.not_before > now())
                     and ($1 is null or j.source = $1) and ($4 is null or j.interaction_id = $4))
    order by i.id
    for update;
    with retried as (
        update salesai.job j set state = 'pending', attempts = 0, losses = 0, not_before = now(), created_at = now()
        where (j.state = 'failed' or j.state = 'pending' and j.not_before > now())
          and ($1 is null or j.source = $1) and ($4 is null or j.interaction_id = $4)
          and case when $2 is null and $3 is null then j.state = 'failed'
              else exists (
                  select from (select * from salesai.job_error e where e.job_id = j.id order by e.id desc limit 1) e
                  where ($2 is null or e.class = $2) and ($3 is null or e.step = $3)) end
        returning j.interaction_id),
    pending as (
        update salesai.interaction i set state = 'pending' from retried r where i.id = r.interaction_id returning i.id),
    woken as materialized (select salesai.wake_worker())
    select (select count(*) from retried) from woken
$$;
comment on function salesai.retry_errors(text, text, text, bigint) is
    'Queues failed jobs again, from the step that failed (what was read stays read; what could not be stored is embedded again): all, or those of a source, or whose last failure was of this class or step (then also those that wait for their next attempt); returns how many';

create function salesai.backfill(
    source text default null, since timestamptz default null, until timestamptz default null, everything boolean default false) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    backfill_id constant bigint := nextval('salesai.backfill_id_seq');
    queued bigint;
begin
    perform salesai.check_queue_room();
    -- Interactions before their jobs, as everywhere.
    perform from salesai.interaction i
    where (source is null or i.source = source) and (since is null or i.occurred_at >= since) and (until is null or i.occurred_at < until)
      and (everything or i.processed_version is distinct from i.version)
    order by i.id
    for update;
    with asked as (
        insert into salesai.job (interaction_id, version, lane, source, backfill_id)
        select i.id, i.version, 'background', i.source, backfill_id
        from salesai.interaction i
        where (source is null or i.source = source) and (since is null or i.occurred_at >= since) and (until is null or i.occurred_at < until)
          and (everything or i.processed_version is distinct from i.version)
        order by i.id
        -- What waits already comes when it comes, and what failed is for salesai.retry_errors.
        on conflict on constraint job_interaction_id_kind_key do nothing
        returning interaction_id)
    select count(*) into queued from asked;
    if queued > 0 then
        insert into salesai.backfill (id, source, since, until, everything, queued) overriding system value
        values (backfill_id, source, since, until, everything, queued);
    end if;
    perform salesai.wake_worker();
    return queued;
end
$$;
comment on function salesai.backfill(text, timestamptz, timestamptz, boolean) is
    'Queues, in the background lane, the interactions of a source or a time that are not indexed as they are, or all of them (everything): after a restore, or to have older ones chunked by newer rules. What is indexed serves meanwhile, and chunks whose text stays keep their embeddings. Returns how many; salesai.backfills shows how far they are';

-- From an original to chunks and vectors. The Rust pipeline calls these one after the other, each in a short transaction;
-- the lease token fences off a holder whose lease was taken over.

create function salesai.unread_payload(interaction_id bigint, version integer)
returns table (kind text, file_name text, media_type text, content bytea)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select i.kind, i.properties ->> 'filename', r.media_type,
        salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.interaction i
    join salesai.raw_payload r on r.interaction_id = i.id and r.version = $2
    join salesai.data_key d on d.interaction_id = i.id
    where i.id = $1 and not exists (select from salesai.segment s where s.interaction_id = i.id and s.version = $2)
$$;
comment on function salesai.unread_payload(bigint, integer) is 'The original of a job whose segments are not there yet';

-- reading: {title, media_type, duration_ms, language, segments: [{speaker, turn, start_char, end_char, start_ms, end_ms,
-- content, part}]}. Returns false when the lease was lost: then nothing is written.
create function salesai.store_reading(job_id bigint, lease_token uuid, reading jsonb, markdown text default null) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
    known_as jsonb;
    segments constant jsonb := reading -> 'segments';
    title constant text := left(nullif(reading ->> 'title', ''), 300);
begin
    perform salesai.lock_interaction(job_id);
    select j.interaction_id as id, j.version, i.account_id, salesai.redacted_kinds(i.source) as kinds, d.wrapped_key into item
    from salesai.job j
    join salesai.interaction i on i.id = j.interaction_id
    join salesai.data_key d on d.interaction_id = i.id
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    for update of j;
    if not found then
        return false;
    end if;
    -- Who was named before, and is written a little differently here, is the same person if nobody else may be.
    with speaker as (select distinct s ->> 'speaker' as name from jsonb_array_elements(segments) s where s ->> 'speaker' is not null)
    select coalesce(jsonb_object_agg(n.name, n.same[1]), '{}') into known_as
    from (select w.name, array_agg(p.name) as same
          from speaker w
          join salesai.participant p on p.interaction_id = item.id and salesai.normalise_name(p.name) = salesai.normalise_name(w.name)
          group by w.name) n
    where cardinality(n.same) = 1
      -- "John (Acme)" and "John (Halden)" are two.
      and (select count(*) from speaker o
           where salesai.normalise_name(o.name) = salesai.normalise_name(n.name) and lower(o.name) <> salesai.normalise_name(o.name)) <= 1;
    perform salesai.store_participants(item.id, (
        select coalesce(jsonb_agg(distinct jsonb_build_object('name', s ->> 'speaker')), '[]')
        from jsonb_array_elements(segments) s where s ->> 'speaker' is not null and not known_as ? (s ->> 'speaker')));
    names := salesai.known_names(item.account_id, item.id);
    if markdown is not null then
        update salesai.raw_payload r
        set text_ciphertext = salesai.seal_text(markdown, item.wrapped_key, item.id, item.version),
            media_type = coalesce(reading ->> 'media_type', r.media_type)
        where r.interaction_id = item.id and r.version = item.version;
    end if;
    update salesai.interaction i
    set redacted_kinds = item.kinds, language = coalesce(reading ->> 'language', i.language),
        duration_ms = coalesce((reading ->> 'duration_ms')::bigint, i.duration_ms),
        -- Now that all names are known.
        subject = salesai.redact_text(
            case when title is not null and i.subject = i.properties ->> 'filename' then title else i.subject end, item.kinds, names)
    where i.id = item.id;
    insert into salesai.segment (interaction_id, version, position, turn, participant_id, start_char, end_char, start_ms,
        end_ms, content, redactions, sealed, part)
    select item.id, item.version, r.position, (s.value ->> 'turn')::integer, p.id, (s.value ->> 'start_char')::integer,
        (s.value ->> 'end_char')::integer, (s.value ->> 'start_ms')::bigint, (s.value ->> 'end_ms')::bigint, r.content,
        r.redactions, r.sealed, s.value ->> 'part'
    from jsonb_array_elements(segments) with ordinality s (value, number)
    join salesai.redact_segments(segments, item.kinds, names, item.wrapped_key, item.id, item.version) r
        on r.position = s.number - 1
    left join salesai.participant p on p.interaction_id = item.id
        and p.name = coalesce(known_as ->> (s.value ->> 'speaker'), s.value ->> 'speaker');
    return true;
end
$$;
comment on function salesai.store_reading(bigint, uuid, jsonb, text) is
    'Writes what a leased job''s original says: segments and participants, and the text of a document; all or nothing; false when the lease was lost';

create function salesai.job_segments(interaction_id bigint, version integer)
returns table (heading text, "position" integer, turn integer, speaker text, start_char integer, end_char integer, content text,
    kind text, occurred_on text, language text, part text, is_backchannel boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.heading(i.id), s.position, s.turn, p.label, s.start_char, s.end_char, s.content, i.kind,
        to_char(i.occurred_at at time zone 'UTC', 'YYYY-MM-DD'), i.language, s.part,
        i.kind in ('call', 'meeting') and length(s.content) < 60 and salesai.is_backchannel(s.content)
    from salesai.interaction i
    join salesai.segment s on s.interaction_id = i.id and s.version = $2
    left join salesai.speakers($1) p on p.participant_id = s.participant_id
    where i.id = $1
    order by s.position
$$;
comment on function salesai.job_segments(bigint, integer) is 'What a job chunks and embeds';

create function salesai.indexed_chunks(interaction_id bigint) returns table (first_position integer, heading text, content text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    active bigint := (select s.id from salesai.embedding_set s where s.state = 'active');
begin
    if active is null then
        return;
    end if;
    return query execute format(
        'select c.first_position, c.heading, c.content from salesai.chunk c
         join salesai.interaction i on i.id = c.interaction_id
         where c.interaction_id = $1
           -- The day is part of what is embedded.
           and (c.occurred_at at time zone ''UTC'')::date = (i.occurred_at at time zone ''UTC'')::date
           -- One without (a gap that was accepted) is tried again.
           and exists (select from salesai.%I e where e.chunk_id = c.id)
         order by c.position', 'embedding_' || active)
        using interaction_id;
end
$$;
comment on function salesai.indexed_chunks(bigint) is 'The chunks of the version that is indexed: those that an edit left alone keep their embeddings';

create function salesai.target_sets() returns table (set_id bigint, model text, model_sha256 text, template text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select t.set_id, t.model, t.model_sha256, t.template
    from (select s.id, s.model, s.model_sha256, s.template, s.state <> 'active'
          from salesai.embedding_set s where s.state in ('building', 'ready', 'active')
          union all
          -- The one to come is made by the default model.
          select null, '', '', salesai.default_template(), false
          where not exists (select from salesai.embedding_set s where s.state = 'active')) t (set_id, model, model_sha256, template, is_other)
    order by t.is_other, t.set_id
$$;
comment on function salesai.target_sets() is 'Embedding sets that new chunks go into, the active one first';

-- chunks: [{first_position, last_position, start_char, end_char, token_count, heading, content, vector}], vector: its
-- number from 0 in embeddings, absent where a chunk of the same text is there already and keeps its embedding.
-- embeddings: all vectors end to end. Returns false when the lease was lost: then nothing is written.
create function salesai.finish_job(
    job_id bigint, lease_token uuid, chunks jsonb, embeddings real[],
    model text, model_sha256 text, dimensions integer, other_sets bigint[] default '{}', made_for bigint default null) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Somebody who began to change sets and went away must not stop the workers without a word.
set lock_timeout = '30s'
as $$
declare
    done salesai.job;
    set_id bigint;
begin
    -- Who makes the first set needs the lock alone, and must not ask for it while another holds it shared too.
    perform salesai.lock_embedding_sets(alone => not exists (select from salesai.embedding_set s where s.state = 'active'));
    perform salesai.lock_interaction(job_id);
    delete from salesai.job j
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    returning * into done;
    if not found then
        return false;
    end if;
    select s.id into set_id from salesai.embedding_set s where s.state = 'active';
    if made_for is not null and made_for is distinct from set_id then
        raise exception 'another embedding set became active meanwhile' using errcode = '40001';
    end if;
    -- Without a new chunk no model was asked.
    if model is not null then
        set_id := salesai.active_embedding_set(model, model_sha256, dimensions);
    end if;
    perform salesai.store_chunks(done.interaction_id, done.version, chunks);
    perform salesai.store_summary(done.interaction_id, done.version);
    if jsonb_array_length(chunks) > 0 then
        perform salesai.store_embeddings(done.interaction_id, chunks, embeddings, set_id, dimensions);
        if exists (select from salesai.embedding_gaps(done.interaction_id, set_id)) then
            raise exception 'the chunks changed meanwhile' using errcode = '40001';
        end if;
    end if;
    -- A set that is built gets what it was not given by a job of its own.
    insert into salesai.job (kind, version, lane, embedding_set_id, first_chunk_id, last_chunk_id)
    select 'embed', 0, 'background', s.id, min(c.id), max(c.id)
    from salesai.embedding_set s
    join salesai.chunk c on c.interaction_id = done.interaction_id
    where s.state in ('building', 'ready') and s.id <> all (other_sets)
    group by s.id;
    update salesai.interaction i
    set state = 'ready', processed_version = done.version, processed_at = clock_timestamp()
    where i.id = done.interaction_id;
    return true;
end
$$;
comment on function salesai.finish_job(bigint, uuid, jsonb, real[], text, text, integer, bigint[], bigint) is
    'Writes the chunks and embeddings of a leased job and removes it, all or nothing; false when the lease was lost. made_for: the set whose template and model made the embeddings; other_sets: sets that the same transaction stores embeddings in';

-- A chunk of the same heading and content keeps its row, and with it its embeddings in all sets.
create function salesai.store_chunks(interaction_id bigint, version integer, chunks jsonb) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    with given as materialized (
        select c.position - 1 as position, c.value ->> 'heading' as heading, c.value ->> 'content' as content,
            (c.value ->> 'token_count')::integer as token_count, (c.value ->> 'first_position')::integer as first_position,
            (c.value ->> 'last_position')::integer as last_position, (c.value ->> 'start_char')::integer as start_char,
            (c.value ->> 'end_char')::integer as end_char, h.hash, row_number() over (partition by h.hash order by c.position) as twin
        from jsonb_array_elements(chunks) with ordinality c (value, position)
        cross join lateral (select salesai.chunk_hash(c.value ->> 'heading', c.value ->> 'content') as hash) h),
    known as materialized (
        select c.id, c.content_hash as hash, row_number() over (partition by c.content_hash order by c.position) as twin
        from salesai.chunk c where c.interaction_id = $1),
    gone as (
        delete from salesai.chunk c
        using known k left join given g on g.hash = k.hash and g.twin = k.twin
        where c.id = k.id and g.hash is null),
    moved as (
        update salesai.chunk c
        set version = $2, position = g.position, first_position = g.first_position, last_position = g.last_position,
            start_char = g.start_char, end_char = g.end_char, occurred_at = i.occurred_at, account_id = i.account_id,
            opportunity_id = i.opportunity_id, owner_rep_id = i.owner_rep_id, team_id = i.team_id
        from known k
        join given g on g.hash = k.hash and g.twin = k.twin
        join salesai.interaction i on i.id = $1
        where c.id = k.id)
    insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char,
        token_count, heading, content, content_hash, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id, language)
    select i.id, $2, g.position, g.first_position, g.last_position, g.start_char, g.end_char, g.token_count, g.heading,
        g.content, g.hash, i.kind, i.occurred_at, i.account_id, i.opportunity_id, i.owner_rep_id, i.team_id, i.language
    from salesai.interaction i
    cross join given g
    left join known k on k.hash = g.hash and k.twin = g.twin
    where i.id = $1 and k.id is null
$$;
comment on function salesai.store_chunks(bigint, integer, jsonb) is 'Makes these the chunks of an interaction';

create function salesai.chunk_hash(heading text, content text) returns bytea
language sql stable
as $$ select pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(heading, e'\n', content), 'UTF8')) $$;
comment on function salesai.chunk_hash(text, text) is 'What a chunk is known by';

create function salesai.store_embeddings(interaction_id bigint, chunks jsonb, embeddings real[], set_id bigint, dimensions integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($1)[g.vector * $2 + 1 : (g.vector + 1) * $2]::@extschema:vector@.%I
         from (select e.position - 1 as position, (e.value ->> ''vector'')::integer as vector
               from jsonb_array_elements($3) with ordinality e (value, position)) g
         join salesai.chunk c on c.interaction_id = $4 and c.position = g.position
         where g.vector is not null
         on conflict (chunk_id) do update set embedding = excluded.embedding',
        'embedding_' || set_id, (select s.element from salesai.embedding_set s where s.id = set_id))
        using embeddings, dimensions, chunks, interaction_id;
end
$$;
comment on function salesai.store_embeddings(bigint, jsonb, real[], bigint, integer) is
    'Stores the vectors of an interaction''s chunks in a set; chunks and embeddings as in salesai.finish_job';

create function salesai.embedding_gaps(interaction_id bigint, set_id bigint) returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select c.id from salesai.chunk c
         where c.interaction_id = $1 and not exists (select from salesai.%I e where e.chunk_id = c.id)', 'embedding_' || set_id)
        using interaction_id;
end
$$;
comment on function salesai.embedding_gaps(bigint, bigint) is 'Chunks of an interaction without an embedding in this set';

-- Works on one range of chunks for a set that is built.
create function salesai.range_chunks(job_id bigint)
returns table (chunk_id bigint, heading text, content text, kind text, occurred_on text, token_count integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    work salesai.job;
begin
    select * into work from salesai.job j where j.id = job_id;
    if not found then
        return;
    end if;
    return query execute format(
        'select c.id, c.heading, c.content, c.kind, to_char(c.occurred_at at time zone ''UTC'', ''YYYY-MM-DD''), c.token_count
         from salesai.chunk c
         where c.id between $1 and $2 and not exists (select from salesai.%I e where e.chunk_id = c.id)
         order by c.id limit 512', 'embedding_' || work.embedding_set_id)
        using work.first_chunk_id, work.last_chunk_id;
end
$$;
comment on function salesai.range_chunks(bigint) is 'Chunks that an embed job has still to embed, at most 512';

create function salesai.finish_range(
    job_id bigint, lease_token uuid, chunk_ids bigint[], embeddings real[], model_sha256 text, dimensions integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    work salesai.job;
    target salesai.embedding_set;
begin
    select * into work from salesai.job j where j.id = $1 and j.state = 'running' and j.lease_token = $2 for update;
    if not found then
        return false;
    end if;
    select * into target from salesai.embedding_set s where s.id = work.embedding_set_id;
    if target.model_sha256 <> model_sha256 and cardinality(chunk_ids) > 0 then
        raise exception 'the sidecar''s model "%" has other weights than the embedding set', target.model using
            errcode = '55000', hint = 'Start the sidecar with the weights that made the set, or drop the set.';
    end if;
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($2)[(g.number - 1) * $3 + 1 : g.number * $3]::@extschema:vector@.%I
         from unnest($1) with ordinality g (id, number)
         -- Chunks may be gone by now.
         join salesai.chunk c on c.id = g.id
         on conflict (chunk_id) do nothing', 'embedding_' || target.id, target.element)
        using chunk_ids, embeddings, dimensions;
    if exists (select from salesai.range_chunks(job_id)) then
        -- More than one round takes: from the start again, where others may go first.
        perform salesai.release_job(job_id, lease_token, 0);
        return false;
    end if;
    delete from salesai.job j where j.id = job_id;
    return true;
end
$$;
comment on function salesai.finish_range(bigint, uuid, bigint[], real[], text, integer) is
    'Stores the embeddings of an embed job and removes it when nothing is left of its range; false when the lease was lost or more is left';

-- Null: the set still waits for chunks. Else what is to be run, outside any transaction.
create function salesai.index_build_steps(job_id bigint) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.embedding_index_steps(b.embedding_set_id)
    from salesai.job b
    where b.id = job_id and not exists (
        select from salesai.job j where j.embedding_set_id = b.embedding_set_id and j.kind = 'embed' and j.state <> 'failed')
$$;
comment on function salesai.index_build_steps(bigint) is 'Statements that a build_index job has to run; NULL while chunks are still embedded';

create function salesai.has_failed_ranges(job_id bigint) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from salesai.job b
        join salesai.job j on j.embedding_set_id = b.embedding_set_id and j.kind = 'embed' and j.state = 'failed'
        where b.id = job_id)
$$;
comment on function salesai.has_failed_ranges(bigint) is 'Whether chunks of the set of a build_index job could not be embedded';

create function salesai.finish_index_build(job_id bigint, lease_token uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Writers of chunks queue behind who waits for the lock alone.
set lock_timeout = '5s'
as $$
declare
    target salesai.embedding_set;
begin
    -- Nobody writes chunks until this commits.
    perform salesai.lock_embedding_sets(alone => true);
    select s.* into target
    from salesai.job j join salesai.embedding_set s on s.id = j.embedding_set_id
    where j.id = $1 and j.state = 'running' and j.lease_token = $2;
    if not found then
        return false;
    end if;
    if salesai.embedding_index_steps(target.id) <> '{}'
       or exists (select from salesai.job j where j.embedding_set_id = target.id and j.kind = 'embed') then
        perform salesai.release_job(job_id, lease_token, 200);
        return false;
    end if;
    delete from salesai.job j where j.id = job_id;
    perform salesai.complete_embedding_set(target.id);
    return true;
end
$$;
comment on function salesai.finish_index_build(bigint, uuid) is
    'Makes a set that is filled and indexed active, or ready; false when the lease was lost or new chunks came, which are waited for';

create function salesai.complete_embedding_set(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if (select s.switch_when_complete from salesai.embedding_set s where s.id = set_id) then
        perform salesai.switch_embedding_set(set_id);
    else
        update salesai.embedding_set s set state = 'ready' where s.id = set_id;
    end if;
end
$$;
comment on function salesai.complete_embedding_set(bigint) is 'What follows when a set is filled and indexed';

drop function salesai.search(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer);
-- Hybrid search: a dense and a lexical leg with the same filters and row-level security, fused. Both legs find their
-- candidates with the rights of the worker and ask for each as the caller (pg_salesai/src/search), so that an index
-- serves whatever the caller may see.

create function salesai.parse_query(query text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'parse_query_wrapper';
comment on function salesai.parse_query(text) is
    'A query taken apart: text (all words that are looked for), phrases ("..."), excluded (-word, -"..."), prefixes (word*)';

create function salesai.lexical_hits(
    terms text[], prefixes text[], filters jsonb, among bigint[], hits_max integer, also bigint[] default '{}')
returns table (chunk_id bigint, score real, is_hit boolean)
language c stable parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'lexical_hits_wrapper';
comment on function salesai.lexical_hits(text[], text[], jsonb, bigint[], integer, bigint[]) is
    'The best chunks by BM25 that the caller may see and that pass the filters (salesai.chunk_condition); with among, only of those. also: chunks whose scores are wanted whether or not they are among the best; these come last, and is_hit is false';

create function salesai.chunks_having_all(terms text[], filters jsonb, chunks_max integer) returns bigint[]
language c stable strict parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'chunks_having_all_wrapper';
comment on function salesai.chunks_having_all(text[], jsonb, integer) is
    'Chunks that have all of these lexemes, that the caller may see and that pass the filters; NULL when more than chunks_max have them';

create function salesai.nearest_query(set_id bigint, exact boolean) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- The sum keeps the planner from the index, and the query is converted once.
    select format(case when exact
        then 'select e.chunk_id, (e.embedding operator(@extschema:vector@.<=>) (select $1::@extschema:vector@.%1$I)) + 0 as distance
              from salesai.%2$I e where e.chunk_id = any ($2) order by 2, 1 limit $3'
        else 'select e.chunk_id, e.embedding operator(@extschema:vector@.<=>) $1::@extschema:vector@.%1$I as distance
              from salesai.%2$I e order by e.embedding operator(@extschema:vector@.<=>) $1::@extschema:vector@.%1$I' end,
        s.element, 'embedding_' || s.id)
    from salesai.embedding_set s where s.id = set_id
$$;
comment on function salesai.nearest_query(bigint, boolean) is
    'The statement that finds the vectors of a set nearest to $1, among the chunks $2 ($3 of them) or by its index';

create function salesai.dense_hits(
    set_id bigint, embedding real[], filters jsonb, among bigint[], hits_max integer) returns table (chunk_id bigint, similarity real)
language c stable parallel unsafe
set search_path = pg_catalog, pg_temp
-- The index goes on until enough rows are found that the caller may see.
set hnsw.iterative_scan = 'strict_order'
set hnsw.max_scan_tuples = 2147483647
set hnsw.scan_mem_multiplier = 1000
set hnsw.ef_search = 400
-- The planner does not know that few rows of the cursor are read.
set enable_sort = off
as 'MODULE_PATHNAME', 'dense_hits_wrapper';
comment on function salesai.dense_hits(bigint, real[], jsonb, bigint[], integer) is
    'The chunks of an embedding set nearest to a vector by cosine, as salesai.lexical_hits; the set''s codes are scanned and the best compared as they are, or its HNSW index is followed, or with a short among all of those are compared';

-- Literals, so that the planner sees what is asked for.
create function salesai.chunk_condition(filters jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(nullif(concat_ws(' and ',
        'c.account_id = ' || (filters ->> 'account_id')::bigint,
        'c.opportunity_id = ' || (filters ->> 'opportunity_id')::bigint,
        'c.owner_rep_id = ' || (filters ->> 'rep_id')::bigint,
        'c.team_id = ' || (filters ->> 'team_id')::bigint,
        'c.kind = any (' || quote_literal(filters ->> 'kinds') || '::text[])',
        'c.occurred_at >= ' || quote_literal(filters ->> 'since') || '::timestamptz',
        'c.occurred_at < ' || quote_literal(filters ->> 'until') || '::timestamptz',
        'c.language = ' || quote_literal(filters ->> 'language'),
        'exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position
              and p.side = ' || quote_literal(filters ->> 'speaker_side') || ')',
        'exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position
              and (lower(p.email) = lower(' || quote_literal(filters ->> 'speaker') || ')
                   or salesai.normalise_name(p.name) = salesai.normalise_name(' || quote_literal(filters ->> 'speaker') || ')))',
        'exists (select from salesai.interaction i where i.id = c.interaction_id
            and i.source = any (' || quote_literal(filters ->> 'sources') || '::text[]))',
        'exists (select from salesai.interaction i where i.id = c.interaction_id
            and i.properties @? ' || quote_literal(filters ->> 'properties') || '::jsonpath)',
        (select string_agg(format('c.lexemes @@ phraseto_tsquery(salesai.text_configuration(c.language), %L)', p), ' and ')
         from jsonb_array_elements_text(filters -> 'phrases') p
         -- One of stop words alone would fit nothing.
         where numnode(phraseto_tsquery('pg_catalog.english', p)) > 0),
        (select string_agg(format('not c.lexemes @@ phraseto_tsquery(salesai.text_configuration(c.language), %L)', e), ' and ')
         from jsonb_array_elements_text(filters -> 'excluded') e
         where numnode(phraseto_tsquery('pg_catalog.english', e)) > 0),
        -- What row-level security says again, in a form that an index can serve; of two that are joined by or none could.
        case when salesai.reads_all() then null
            when salesai.reader_team_ids() <> '{}' then format('(c.owner_rep_id = %L or c.team_id = any (%L::bigint[]))',
                salesai.reader_rep_id(), salesai.reader_team_ids())
            else format('c.owner_rep_id = %L', salesai.reader_rep_id()) end), ''), 'true')
$$;
comment on function salesai.chunk_condition(jsonb) is
    'The SQL condition on salesai.chunk c for filters: account_id, opportunity_id, rep_id, team_id, kinds, since, until, language, speaker, speaker_side, sources, properties (jsonpath), phrases, excluded';

create function salesai.wanted_chunks(filters jsonb, parsed jsonb) returns jsonb
language sql immutable strict parallel safe
as $$
    select filters || (select coalesce(jsonb_object_agg(p.key, p.value), '{}')
                       from jsonb_each(parsed) p where p.key in ('phrases', 'excluded') and p.value <> '[]')
$$;
comment on function salesai.wanted_chunks(jsonb, jsonb) is
    'Filters, and what a query (salesai.parse_query) demands besides: phrases and excluded words';

create function salesai.estimated_chunks(condition text) returns table (chunks double precision, cost double precision)
language c stable strict parallel unsafe rows 1
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'estimated_chunks_wrapper';
comment on function salesai.estimated_chunks(text) is 'How many chunks the planner thinks fulfil a condition, and what it thinks reading their ids costs';

-- Where few chunks qualify, knowing all of them is faster than passing by all others, and exact.
create function salesai.qualifying_chunks(condition text, filters jsonb, hits_max integer) returns bigint[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    all_chunks constant double precision := greatest((select c.reltuples from pg_class c where c.oid = 'salesai.chunk'::regclass), 1000);
    has_codes constant boolean := coalesce((select s.index_method = 'codes' from salesai.embedding_set s where s.state = 'active'), true);
    -- Microseconds, measured: a unit of the planner's cost; a chunk whose id is known; one that both legs pass by.
    cost_us constant double precision := 1.5;
    known_us constant double precision := case when has_codes then 0.5 else 10 end;
    passed_us constant double precision := case when has_codes then 10 else 60 end;
    expected record;
    at_most integer;
    phrase_terms text[];
    chunks bigint[];
begin
    if jsonb_array_length(filters -> 'phrases') > 0 then
        select array_agg(distinct t) into phrase_terms
        from jsonb_array_elements_text(filters -> 'phrases') p
        cross join lateral unnest(tsvector_to_array(to_tsvector('pg_catalog.english', p))) t
        where (select count(*) from salesai.lexical_language) <= 1
          and not exists (select from salesai.lexical_language l where l.configuration <> 'english');
        if phrase_terms is not null then
            chunks := salesai.chunks_having_all(phrase_terms, filters, greatest(4000, 4 * sqrt(5 * hits_max * all_chunks)::integer));
            if chunks is not null then
                return chunks;
            end if;
        end if;
    end if;
    if condition = 'true' then
        return null;
    end if;
    select e.chunks, e.cost into expected from salesai.estimated_chunks(condition) e;
    if expected.chunks > 1000
       and expected.cost * cost_us + expected.chunks * known_us > hits_max * all_chunks / expected.chunks * passed_us then
        return null;
    end if;
    -- The planner can be wrong.
    at_most := greatest(4000, 4 * expected.chunks);
    execute format('select array_agg(t.id) from (select c.id from salesai.chunk c where %s limit %s) t', condition, at_most + 1) into chunks;
    if cardinality(chunks) > at_most then
        return null;
    end if;
    return coalesce(chunks, '{}');
end
$$;
comment on function salesai.qualifying_chunks(text, jsonb, integer) is 'All chunks that fulfil a condition, where it takes less to know them than to pass by all others; else NULL';

create function salesai.named_period(query text, today date) returns table (since date, until date)
language c immutable strict parallel safe rows 1 as 'MODULE_PATHNAME', 'named_period_wrapper';
comment on function salesai.named_period(text, date) is
    'The first period that an English text names ("last quarter", "since March", "Q3 2026"), until excluded; no row where it names none. Weeks begin on Monday, quarters in January';

create function salesai.subject_of_discussion(query text) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'subject_of_discussion_wrapper';
comment on function salesai.subject_of_discussion(text) is
    'What an English query is about that asks what was said on a subject ("Summarize ...", "What did they think of ..."): without the words that only ask; NULL where it asks for a fact';

create function salesai.searched_words(query text, understand boolean) returns text
language sql immutable parallel safe
as $$
    select case when understand and parsed -> 'phrases' = '[]' and parsed -> 'prefixes' = '[]' and to_tsvector('pg_catalog.english', subject) <> ''
        then subject else parsed ->> 'text' end
    from salesai.parse_query(query) parsed, salesai.subject_of_discussion(parsed ->> 'text') subject
$$;
comment on function salesai.searched_words(text, boolean) is 'The words of a query that the lexical leg looks for: with understand without those that only ask for a discussion, where others are left and none is in quotes or has a star';

-- What a query names: accounts, opportunities, contacts and products, by their whole names, and a time.
create function salesai.mentioned(query text)
returns table (account_ids bigint[], opportunity_ids bigint[], products text[], since timestamptz, until timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with word as (
        select w.word, w.number
        from regexp_split_to_table(lower(query), '[^[:alnum:]&.''-]+') with ordinality w (word, number) where w.word <> ''),
    phrase as (
        select string_agg(o.word, ' ' order by o.number) as name
        from word f
        cross join generate_series(0, 4) more
        join word o on o.number between f.number and f.number + more
        group by f.number, more),
    named as (select distinct btrim(p.name, '.''-') as name from phrase p where length(p.name) > 2)
    select
        array(select a.id from named n join salesai.account a on a.name_key = n.name where a.deleted_at is null
              union
              select c.account_id from named n join salesai.contact c on c.name_key = n.name
              where c.deleted_at is null and c.account_id is not null),
        array(select o.id from named n join salesai.opportunity o on o.name_key = n.name where o.deleted_at is null),
        array(select distinct p.name from named n join salesai.product p on p.name_key = n.name where p.deleted_at is null order by 1),
        period.since, period.until
    from (select) one
    left join salesai.named_period(query, current_date) period on true
$$;
comment on function salesai.mentioned(text) is
    'What a query names: accounts and opportunities, or contacts of them, by their ids, products by their names, and a time (NULL where it is open or none is named; days are those of the session''s time zone)';

-- Chunks that are compared once more, by a cross-encoder.
create function salesai.reranked_max(k integer) returns integer
language sql immutable strict parallel safe
as $$ select greatest(least(3 * k, 100), k, 30) $$;
comment on function salesai.reranked_max(integer) is 'How many of the best chunks salesai.search reranks to find k';

create function salesai.rerank(query text, passages text[], model text default null, timeout_ms integer default null) returns real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'rerank_wrapper';
comment on function salesai.rerank(text, text[], text, integer) is
    'How well each passage fits the query by a reranking model of the sidecar (a cross-encoder; NULL: the default one): logits in order, the higher the better';

create function salesai.diverse_order(scores real[], vectors real[], diversity real, hits_max integer) returns integer[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'diverse_order_wrapper';
comment on function salesai.diverse_order(real[], real[], real, integer) is
    'Numbers of candidates, the best first, in an order in which what is much the same does not stand together (maximal marginal relevance); vectors: all end to end';

-- In the order of the chunks; zeros where one has no vector.
create function salesai.stored_vectors(set_id bigint, chunk_ids bigint[]) returns real[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    vectors real[];
begin
    execute format(
        'select array_agg(v.value order by u.number, v.number)
         from unnest($1) with ordinality u (id, number)
         left join salesai.%I e on e.chunk_id = u.id
         cross join lateral unnest(coalesce(e.embedding::@extschema:vector@.vector::real[], array_fill(0::real, array[$2])))
             with ordinality v (value, number)', 'embedding_' || set_id)
        into vectors using chunk_ids, (select s.dimensions from salesai.embedding_set s where s.id = set_id);
    return vectors;
end
$$;
comment on function salesai.stored_vectors(bigint, bigint[]) is 'Vectors of chunks in an embedding set, end to end';

create function salesai.logistic(x double precision) returns double precision
language sql immutable parallel safe
-- Not strict, so that it is inlined; x is never NULL.
as $$ select 1 / (1 + exp(least(greatest(-x, -50), 50))) $$;
comment on function salesai.logistic(double precision) is 'From 0 to 1: 1 / (1 + e^-x); beyond 50 and -50 it stays, since floating point ends there';

-- Deeper than k, so that a row which only one leg ranks high is still fused.
create function salesai.leg_depth(k integer) returns integer
language sql immutable strict parallel safe
as $$ select greatest(4 * k, 100) $$;
comment on function salesai.leg_depth(integer) is 'How many chunks each leg of salesai.search ranks to find k';

-- options: mode, fusion, alpha, rrf_k, understand, recency_days, diversity, around. The one place that ranks; search and
-- search_explain show it.
create function salesai.ranked_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real,
    fused double precision, around double precision, boost double precision, recency double precision, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    parsed constant jsonb := salesai.parse_query(query);
    words constant text := parsed ->> 'text';
    searched constant text := salesai.searched_words(query, (options ->> 'understand')::boolean);
    mode constant text := options ->> 'mode';
    alpha constant double precision := case mode when 'dense' then 1 when 'lexical' then 0 else (options ->> 'alpha')::double precision end;
    rrf_k constant integer := options ->> 'rrf_k';
    diversity constant real := coalesce((options ->> 'diversity')::real, 0);
    fuses_scores constant boolean := options ->> 'fusion' = 'score';
    around_share constant double precision := coalesce((options ->> 'around')::double precision, 0);
    depth constant integer := salesai.leg_depth(k);
    wanted constant jsonb := salesai.wanted_chunks(filters, parsed);
    condition constant text := salesai.chunk_condition(wanted);
    prefixes constant text[] := array(select jsonb_array_elements_text(parsed -> 'prefixes'));
    among bigint[];
    terms text[];
    named record;
    product_phrases tsquery[];
    active salesai.embedding_set;
    embedding real[];
    dense_ids bigint[] := '{}';
    similarities real[] := '{}';
    lexical_ids bigint[] := '{}';
    lexical_scores real[] := '{}';
    dense_found integer := 0;
    lexical_found integer := 0;
    coverage double precision;
begin
    if words !~ '\S' then
        return;
    end if;
    among := salesai.qualifying_chunks(condition, wanted, depth);
    if mode <> 'lexical' then
        select * into active from salesai.embedding_set s where s.state = 'active';
    end if;
    if active.id is not null then
        select v into embedding from salesai.model_embedding_values(active.model, array[words], null, active.model_sha256) v;
        select coalesce(array_agg(h.chunk_id), '{}'), coalesce(array_agg(h.similarity), '{}') into dense_ids, similarities
        from salesai.dense_hits(active.id, embedding, wanted, among, depth) h;
        dense_found := cardinality(dense_ids);
    end if;
    if mode <> 'dense' then
        select coalesce(array_agg(distinct t.term), '{}') into terms
        from salesai.lexical_language l
        cross join lateral unnest(tsvector_to_array(to_tsvector(l.configuration::regconfig, searched))) t (term);
        -- What the other leg alone has found has a score in this one as well.
        select coalesce(array_agg(h.chunk_id), '{}'), coalesce(array_agg(h.score), '{}'), count(*) filter (where h.is_hit)
        into lexical_ids, lexical_scores, lexical_found
        from salesai.lexical_hits(terms, prefixes, wanted, among, depth, case when fuses_scores then dense_ids else '{}' end) h;
    end if;
    if fuses_scores and dense_found > 0 and lexical_found > 0 then
        select similarities || coalesce(array_agg(h.similarity), '{}'), dense_ids || coalesce(array_agg(h.chunk_id), '{}')
        into similarities, dense_ids
        from salesai.dense_hits(active.id, embedding, '{}', array(
            select u from unnest(lexical_ids) u except select u from unnest(dense_ids) u), depth) h;
        -- Where the best have few of the query's words, their scores tell little.
        if prefixes = '{}' then
            select max((select avg((t = any (tsvector_to_array(c.lexemes)))::integer)
                        from unnest(tsvector_to_array(to_tsvector(salesai.text_configuration(c.language), searched))) t))
            into coverage
            from unnest(lexical_ids[1:3]) u (id) join salesai.chunk c on c.id = u.id;
        end if;
    end if;
    if (options ->> 'understand')::boolean then
        select * into named from salesai.mentioned(words);
    else
        select '{}'::bigint[] as account_ids, '{}'::bigint[] as opportunity_ids, '{}'::text[] as products,
            null::timestamptz as since, null::timestamptz as until into named;
    end if;
    select array_agg(distinct phraseto_tsquery(l.configuration::regconfig, p.name)) into product_phrases
    from salesai.lexical_language l cross join unnest(named.products) p (name)
    where to_tsvector(l.configuration::regconfig, p.name) <> '';
    return query
        with dense as (
            select u.chunk_id, u.similarity, case when u.rank <= dense_found then u.rank end as rank
            from unnest(dense_ids, similarities) with ordinality u (chunk_id, similarity, rank)),
        lexical as (
            select u.chunk_id, u.score, case when u.rank <= lexical_found then u.rank end as rank
            from unnest(lexical_ids, lexical_scores) with ordinality u (chunk_id, score, rank)),
        candidate as (
            select coalesce(d.chunk_id, l.chunk_id) as chunk_id, d.rank as dense_rank, d.similarity, l.rank as lexical_rank, l.score,
                coalesce(l.score, 0)::double precision as words_score, coalesce(d.similarity, 0)::double precision as meaning
            from dense d full join lexical l on l.chunk_id = d.chunk_id),
        fused as (
            select c.*, case options ->> 'fusion'
                when 'rank' then coalesce(alpha / (rrf_k + c.dense_rank), 0) + coalesce((1 - alpha) / (rrf_k + c.lexical_rank), 0)
                -- How far above the other candidates it is, in their standard deviations.
                else alpha * coalesce((c.meaning - avg(c.meaning) over ()) / nullif(stddev_pop(c.meaning) over (), 0), 0)
                    + (1 - alpha) * coalesce(coverage, 1) * coalesce((c.words_score - avg(c.words_score) over ()) / nullif(stddev_pop(c.words_score) over (), 0), 0)
                end as fused
            from candidate c),
        placed as (
            select f.*, c.account_id, c.opportunity_id, c.occurred_at, c.interaction_id, c.position, c.kind in ('call', 'meeting') as is_talk
            from fused f join salesai.chunk c on c.id = f.chunk_id),
        -- A conversation stays with its subject for a while: what stands around a chunk says something of it.
        company as (
            select p.chunk_id, sum(near.fused / abs(near.position - p.position)) as fused
            from placed p join placed near on near.interaction_id = p.interaction_id
            where around_share > 0 and p.is_talk and abs(near.position - p.position) between 1 and 2
            group by p.chunk_id),
        weighed as (
            select p.*, around_share * coalesce(y.fused, 0) as around_part,
                (case when p.account_id = any (named.account_ids) or p.opportunity_id = any (named.opportunity_ids) then 1.5 else 1 end
                    * case when product_phrases is not null and exists (
                          select from salesai.chunk c, unnest(product_phrases) phrase
                          where c.id = p.chunk_id and c.lexemes @@ phrase) then 1.5 else 1 end
                    * case when coalesce(named.since, named.until) is not null
                          and p.occurred_at >= coalesce(named.since, '-infinity') and p.occurred_at < coalesce(named.until, 'infinity')
                          then 1.5 else 1 end)::double precision as boost,
                case when options ->> 'recency_days' is null then 1
                     else 0.5 ^ least(greatest(extract(epoch from now() - p.occurred_at)::double precision
                                               / 86400 / (options ->> 'recency_days')::double precision, 0), 1000) end
                    ::double precision as recency
            from placed p left join company y on y.chunk_id = p.chunk_id),
        scored as (
            select w.*, case options ->> 'fusion'
                when 'rank' then w.fused * w.boost * w.recency
                else salesai.logistic(w.fused + w.around_part + ln(w.boost)) * w.recency end as total
            from weighed w
            order by total desc, w.chunk_id
            limit case when diversity > 0 then depth else k end)
        select s.chunk_id, s.dense_rank, s.similarity, s.lexical_rank, s.score, s.fused, s.around_part, s.boost, s.recency, s.total
        from scored s order by s.total desc, s.chunk_id;
end
$$;
comment on function salesai.ranked_chunks(text, integer, jsonb, jsonb) is 'The best chunks of both legs, and how each came by its score';

-- A cross-encoder's logit takes the place of what the legs made.
create function salesai.reranked_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real, fused double precision,
    around double precision, boost double precision, recency double precision, rerank_score real, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not (options ->> 'rerank')::boolean then
        return query
            select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency,
                null::real, r.score
            from salesai.ranked_chunks(query, k, filters, options) with ordinality r
            order by r.ordinality;
        return;
    end if;
    return query
        with ranked as materialized (
            select * from salesai.ranked_chunks(query, salesai.reranked_max(k), filters, options || '{"diversity": 0}') with ordinality),
        listed as (
            select array_agg(c.heading || e'\n' || c.content order by r.ordinality) as passages
            from ranked r join salesai.chunk c on c.id = r.chunk_id)
        select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency,
            s.score, salesai.logistic(s.score + ln(r.boost)) * r.recency
        from listed l
        cross join lateral unnest(salesai.rerank(salesai.parse_query(query) ->> 'text', l.passages)) with ordinality s (score, place)
        join ranked r on r.ordinality = s.place
        order by 11 desc, r.chunk_id
        limit case when (options ->> 'diversity')::real > 0 then salesai.reranked_max(k) else k end;
end
$$;
comment on function salesai.reranked_chunks(text, integer, jsonb, jsonb) is 'salesai.ranked_chunks, ranked once more by a cross-encoder where the options say so';

-- With diversity some better ones make room for others.
create function salesai.chosen_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real, fused double precision,
    around double precision, boost double precision, recency double precision, rerank_score real, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    chunk_ids bigint[];
    scores real[];
begin
    if (options ->> 'diversity')::real = 0 then
        return query select * from salesai.reranked_chunks(query, k, filters, options);
        return;
    end if;
    return query
        with ranked as materialized (
            select * from salesai.reranked_chunks(query, k, filters, options) with ordinality),
        listed as (
            select array_agg(r.chunk_id order by r.ordinality) as ids, array_agg(greatest(r.score, 1e-37)::real order by r.ordinality) as scores
            from ranked r)
        select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency, r.rerank_score, r.score
        from listed l
        cross join lateral unnest(salesai.diverse_order(l.scores, coalesce(
            (select salesai.stored_vectors(e.id, l.ids) from salesai.embedding_set e where e.state = 'active'), '{}'),
            (options ->> 'diversity')::real, k)) with ordinality o (number, place)
        join ranked r on r.ordinality = o.number
        order by o.place;
end
$$;
comment on function salesai.chosen_chunks(text, integer, jsonb, jsonb) is 'The chunks that salesai.search returns: salesai.reranked_chunks, made diverse as the options say';

-- What both functions below accept, checked; filters as salesai.chunk_condition takes them.
create function salesai.search_filters(
    account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text, speaker text,
    sources text[], rep text, team text, language text, properties jsonpath) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    rep_ids bigint[];
    team_ids bigint[];
begin
    if speaker_side not in ('internal', 'external', 'unknown') then
        raise exception 'unknown speaker side "%"', speaker_side using
            errcode = '22023', hint = 'Use internal, external or unknown.';
    end if;
    if rep is not null then
        select array_agg(r.id) into rep_ids from salesai.rep r
        where r.deleted_at is null and (r.id::text = rep or r.external_id = rep or lower(r.email) = lower(rep) or lower(r.name) = lower(rep));
        rep_ids := array[salesai.only_match('rep', rep, rep_ids)];
    end if;
    if team is not null then
        select array_agg(t.id) into team_ids from salesai.team t
        where t.deleted_at is null and (t.id::text = team or t.external_id = team or lower(t.name) = lower(team));
        team_ids := array[salesai.only_match('team', team, team_ids)];
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'account_id', salesai.resolve_account(account), 'opportunity_id', salesai.resolve_opportunity(opportunity),
        'rep_id', rep_ids[1], 'team_id', team_ids[1], 'kinds', kinds::text, 'since', since, 'until', until,
        'speaker_side', speaker_side, 'speaker', speaker, 'sources', sources::text, 'language', language,
        'properties', properties::text));
end
$$;
comment on function salesai.search_filters(text, text, text[], timestamptz, timestamptz, text, text, text[], text, text, text, jsonpath) is
    'The filters of salesai.search, its names resolved';

create function salesai.search_options(
    query text, k integer, mode text, alpha real, rrf_k integer, fusion text, understand boolean, recency interval, diversity real,
    around real, rerank boolean) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    recency_days constant double precision := extract(epoch from recency) / 86400;
    understands constant boolean := coalesce(understand, false);
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
    if fusion is null or fusion not in ('score', 'rank') then
        raise exception 'unknown fusion "%"', fusion using errcode = '22023', hint = 'Use score or rank.';
    end if;
    if alpha is null or alpha not between 0 and 1 or rrf_k is null or rrf_k < 1 then
        raise exception 'alpha must be between 0 and 1, rrf_k at least 1' using errcode = '22023';
    end if;
    if recency_days <= 0 or diversity is null or diversity not between 0 and 1 or around not between 0 and 1 then
        raise exception 'recency must be positive, diversity and around between 0 and 1' using errcode = '22023';
    end if;
    return jsonb_build_object('mode', mode, 'fusion', fusion, 'alpha', alpha, 'rrf_k', rrf_k,
        'understand', understands, 'recency_days', recency_days, 'diversity', diversity,
        'around', coalesce(around, case when understands and fusion = 'score' and salesai.subject_of_discussion(salesai.parse_query(query) ->> 'text') is not null then 0.5 else 0 end),
        'rerank', coalesce(rerank, false));
end
$$;
comment on function salesai.search_options(text, integer, text, real, integer, text, boolean, interval, real, real, boolean) is
    'The options of salesai.ranked_chunks, checked';

create function salesai.search_support(request internal) returns internal
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'search_support_wrapper';
comment on function salesai.search_support(internal) is 'Tells the planner that a search gives k rows';

create function salesai.search(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60,
    fusion text default 'score', said_by text default null, sources text[] default null, rep text default null,
    team text default null, language text default null, properties jsonpath default null, understand boolean default true,
    recency interval default null, diversity real default 0, neighbours integer default 0, around real default null,
    rerank boolean default false)
returns table (chunk_id bigint, interaction_id bigint, occurred_at timestamptz, speaker text, start_ms bigint,
    end_ms bigint, content text, dense_rank bigint, lexical_rank bigint, score double precision,
    dense_similarity real, lexical_score real, before text, after text)
language plpgsql stable parallel restricted cost 200000 rows 10 support salesai.search_support
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    options constant jsonb := salesai.search_options($1, $2, $9, $10, $11, $12, $19, $20, $21, $23, $24);
    filters constant jsonb := salesai.search_filters($3, $4, $5, $6, $7, $8, $13, $14, $15, $16, $17, $18);
begin
    if $22 is null or $22 not between 0 and 20 then
        raise exception 'neighbours must be between 0 and 20' using errcode = '22023';
    end if;
    return query
        select c.id, c.interaction_id, c.occurred_at, who.speaker, who.start_ms, who.end_ms, c.content,
               r.dense_rank, r.lexical_rank, r.score, r.dense_similarity, r.lexical_score, near.before, near.after
        from salesai.chosen_chunks($1, $2, filters, options) with ordinality r
        join salesai.chunk c on c.id = r.chunk_id
        left join lateral (
            select case when count(distinct s.participant_id) = 1 then min(p.name) end as speaker,
                   min(s.start_ms) as start_ms, max(s.end_ms) as end_ms
            from salesai.segment s left join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position) who on true
        left join lateral (
            select string_agg(n.content, e'\n' order by n.position) filter (where n.position < c.position) as before,
                   string_agg(n.content, e'\n' order by n.position) filter (where n.position > c.position) as after
            from salesai.chunk n
            where $22 > 0 and n.interaction_id = c.interaction_id and n.position between c.position - $22 and c.position + $22) near on true
        order by r.ordinality;
end
$$;
comment on function salesai.search(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer,
    text, text, text[], text, text, text, jsonpath, boolean, interval, real, integer, real, boolean) is
    'Chunks that fit a query, best first. In the query "..." must be there word for word, -word must not, word* stands for all that begin so. Filters and row-level security bind both legs before fusion; k rows come back whenever k qualify. speaker is set when one person says all of the chunk; said_by (name or e-mail address), rep and team (id, external id, name; rep also e-mail address), sources, language (ISO 639-1) and properties (a jsonpath on the interaction''s) filter. mode: hybrid, dense, lexical (needs no sidecar). dense_rank and lexical_rank are NULL where that leg did not rank the row. fusion: score (how far a chunk is above the other candidates in both legs, alpha the weight of the dense one, 1 - alpha and the share of the query''s words that the best have that of the lexical one; score is 0 to 1) or rank (alpha/(rrf_k + dense_rank) + (1 - alpha)/(rrf_k + lexical_rank)). understand: chunks of accounts and opportunities that the query names, about products that it names and of a time that it names ("last quarter") count more. recency: the time after which a chunk counts half. diversity, 0 to 1: what is much the same does not stand together. neighbours: so many chunks before and after come along. around, 0 to 1: in calls and meetings the two chunks before and after count too, for who wants passages rather than facts (NULL: 0.5 where the query asks for a discussion and understand is on, else 0). rerank: the best are compared once more by a cross-encoder of the sidecar, which takes its time (with mode lexical too)';

create function salesai.search_explain(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60,
    fusion text default 'score', said_by text default null, sources text[] default null, rep text default null,
    team text default null, language text default null, properties jsonpath default null, understand boolean default true,
    recency interval default null, diversity real default 0, around real default null, rerank boolean default false)
returns table (rank bigint, chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real,
    words text, fused double precision, around_part double precision, boost double precision, recency_factor double precision,
    rerank_score real, score double precision, scan text, content text)
language plpgsql stable cost 200000 rows 10 support salesai.search_support
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    options constant jsonb := salesai.search_options($1, $2, $9, $10, $11, $12, $19, $20, $21, $22, $23);
    filters constant jsonb := salesai.search_filters($3, $4, $5, $6, $7, $8, $13, $14, $15, $16, $17, $18);
    searched constant text := salesai.searched_words($1, (options ->> 'understand')::boolean);
    wanted constant jsonb := salesai.wanted_chunks(filters, salesai.parse_query($1));
    condition constant text := salesai.chunk_condition(wanted);
    among constant bigint[] := salesai.qualifying_chunks(
        condition, wanted, salesai.leg_depth(case when $23 then salesai.reranked_max($2) else $2 end));
begin
    return query
        select r.ordinality, c.id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score,
            (select string_agg(format('%s %s', u.lexeme, (
                        select string_agg(format('%s %s', w.field, w.times), ', ' order by w.field)
                        from (select case weight when 'A' then 'content' when 'B' then 'heading' else 'speaker' end as field, count(*) as times
                              from unnest(u.weights) weight group by 1) w)), '; ' order by u.lexeme)
             from unnest(c.lexemes) u
             where u.lexeme = any (tsvector_to_array(to_tsvector(salesai.text_configuration(c.language), searched)))),
            r.fused, r.around, r.boost, r.recency, r.rerank_score, r.score,
            case when among is null then 'all chunks' else format('those that qualify: %s chunks', cardinality(among)) end, c.content
        from salesai.chosen_chunks($1, $2, filters, options) with ordinality r
        join salesai.chunk c on c.id = r.chunk_id
        order by r.ordinality;
end
$$;
comment on function salesai.search_explain(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer,
    text, text, text[], text, text, text, jsonpath, boolean, interval, real, real, boolean) is
    'As salesai.search: how each chunk came by its rank. words: stems of the query that it has, and where; fused: of both legs, before what the chunks around it add in conversations (around_part), boost (named accounts, opportunities, products and times) and recency_factor; rerank_score: the cross-encoder''s logit, which then takes the place of fused and around_part; scan: whether the legs ranked all chunks and passed by those that do not qualify, or only those that do';

-- What models made, so that the same is not computed twice for the same rights. Not logged: a crash empties it.

create unlogged table salesai.result_cache (
    -- SHA-256 over all that the value depends on: weights, adapter generation, prompt or text, rights of the caller.
    key bytea not null,
    value bytea not null,
    -- Of salesai.result_epoch, as it was when the work began.
    epoch bigint not null,
    made_at timestamptz not null default now()
);
comment on table salesai.result_cache is
    'Texts and vectors of models by the digest of all that they depend on; off with salesai.result_cache. Two sessions that make the same at once leave two rows: an index that refused one would let one wait for the other''s transaction';
create index result_cache_key_idx on salesai.result_cache (key);
create index result_cache_made_at_idx on salesai.result_cache (made_at);

-- A sequence, because it is changed without a lock and without a conflict.
create sequence salesai.result_epoch;
comment on sequence salesai.result_epoch is 'Results of before its last step are not used any more: what they were made of was deleted or redacted';

-- Owner rights: whoever deletes or redacts leaves nothing behind that was made of it.
create function salesai.forget_results() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from old_rows) then
        perform nextval('salesai.result_epoch');
    end if;
    return null;
end
$$;
comment on function salesai.forget_results() is 'Trigger: makes all kept results useless; a worker deletes them';

create trigger forget_results after delete on salesai.interaction
    referencing old table as old_rows for each statement execute function salesai.forget_results();
create trigger forget_results after update on salesai.segment
    referencing old table as old_rows for each statement execute function salesai.forget_results();

create function salesai.purge_results(older_than interval default '7 days', bytes_max bigint default null) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    epoch_min constant bigint := (select e.last_value + e.is_called::integer from salesai.result_epoch e);
    size_max bigint := bytes_max;
    made_min timestamptz := now() - older_than;
    gone bigint;
begin
    if size_max is null then
        -- A call into the library, so that its settings are known.
        perform salesai.library_version();
        size_max := pg_size_bytes(current_setting('salesai.result_cache_size'));
    end if;
    -- Only then are the rows read; beyond the size go the oldest.
    if pg_table_size('salesai.result_cache') > size_max then
        select coalesce(max(s.made_at) + interval '1 microsecond', made_min) into made_min
        from (select c.made_at, sum(pg_column_size(c)) over (order by c.made_at desc) as bytes
              from salesai.result_cache c where c.made_at >= made_min and c.epoch >= epoch_min) s
        where s.bytes > size_max;
    end if;
    delete from salesai.result_cache c where c.made_at < made_min or c.epoch < epoch_min;
    get diagnostics gone = row_count;
    return gone;
end
$$;
comment on function salesai.purge_results(interval, bigint) is
    'Deletes kept results that are older, of no use any more, or the oldest beyond so many bytes (NULL: salesai.result_cache_size); how many. A worker does it by itself';

create function salesai.generate_texts(prompts text[], options jsonb) returns text[]
language c volatile strict parallel unsafe cost 1000000 as 'MODULE_PATHNAME', 'generate_texts_wrapper';
comment on function salesai.generate_texts(text[], jsonb) is 'salesai.generate_text for many prompts at once; used by salesai.generate';

create function salesai.generate_text_stream(prompt text, options jsonb) returns setof text
language c volatile strict parallel unsafe cost 1000000 rows 100 as 'MODULE_PATHNAME', 'generate_text_stream_wrapper';
comment on function salesai.generate_text_stream(text, jsonb) is 'The same in pieces; used by salesai.generate_stream';

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

-- Semantic operators: what a model says of documents, as values. Scalar forms ask once for each call; array forms, and
-- salesai.apply_operator as a set, ask about all documents together. Volatile, because a stable function with constant
-- arguments is also evaluated to plan a query, and one below a subquery once for each time that its column is named.

create function salesai.operator_options(
    model text default null, adapter text default null, timeout_ms integer default null, on_error text default null,
    max_error_ratio double precision default null, prompt_version integer default null) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('model', model, 'adapter', adapter, 'timeout_ms', timeout_ms,
        'on_error', on_error, 'max_error_ratio', max_error_ratio, 'prompt_version', prompt_version))
$$;
comment on function salesai.operator_options(text, text, integer, text, double precision, integer) is
    'Options of salesai.apply_operator. model, adapter: NULL for the default model; timeout_ms: for all documents together, NULL for salesai.timeout_ms; on_error: null (default: a document that fails has NULL and is counted, a call with several warns how many), detail (warnings name them) or error (the call fails); max_error_ratio: a call of which more fails, fails (NULL: 1); prompt_version: of the operator''s prompt template, NULL for the active one';

create function salesai.apply_operator(
    operator text, documents text[], arguments jsonb default '{}', options jsonb default '{}')
returns table (number integer, value jsonb, error text)
language c volatile parallel unsafe cost 1000000 rows 100 as 'MODULE_PATHNAME', 'apply_operator_wrapper';
comment on function salesai.apply_operator(text, text[], jsonb, jsonb) is
    'Applies classify {labels}, sentiment, is_true {statement}, extract {fields}, summarize or generate {instruction} to documents: a row for each, numbered from 1, with a value or an error. All are asked about together, equal ones once; NULL and blank ones have NULL. options: salesai.operator_options';

create function salesai.operator_progress()
returns table (pid integer, operator text, started_at timestamptz, texts bigint, done bigint, done_before bigint)
language c volatile parallel restricted rows 5 as 'MODULE_PATHNAME', 'operator_progress_wrapper';
comment on function salesai.operator_progress() is
    'Sessions of this database that ask a model about many texts now, of roles that the caller belongs to (pg_read_all_stats: of all): texts of the present call, equal ones once, and how many are answered or failed; done_before: those of earlier calls of the same statement, which may ask about its rows in several batches. Empty where the library is not preloaded';

create function salesai.operator_statistics()
returns table (operator text, calls bigint, documents bigint, failures bigint, generations bigint, remembered bigint, shortened bigint,
    prompt_tokens bigint, completion_tokens bigint, last_error text)
language c volatile parallel restricted rows 5 as 'MODULE_PATHNAME', 'operator_statistics_wrapper';
comment on function salesai.operator_statistics() is
    'What semantic operators did in this session: calls, documents, those that failed, and what the model generated for them (remembered: results of earlier calls that were used again; shortened: texts that reached the most tokens and were cut back to a whole sentence)';

create function salesai.operator_value(operator text, document text, arguments jsonb, options jsonb) returns jsonb
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$ select a.value from salesai.apply_operator(operator, array[document], arguments, options) a $$;
comment on function salesai.operator_value(text, text, jsonb, jsonb) is 'salesai.apply_operator for one document';

create function salesai.classify(
    document text, labels text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('classify', document, jsonb_build_object('labels', labels),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.classify(text, text[], text, text, text, integer) is
    'The label that fits a document best, by the language model: always one of the labels, or NULL for an error (salesai.operator_options)';

create function salesai.classify(
    documents text[], labels text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('classify', documents, jsonb_build_object('labels', labels),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.classify(text[], text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.sentiment(
    document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('sentiment', document, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.sentiment(text, text, text, text, integer) is 'Whether a document is positive, neutral, negative or mixed, as salesai.classify';

create function salesai.sentiment(
    documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('sentiment', documents, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.sentiment(text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.is_true(
    statement text, document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns boolean
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('is_true', document, jsonb_build_object('statement', statement),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, '')))::boolean
$$;
comment on function salesai.is_true(text, text, text, text, text, integer) is
    'Whether a statement holds for a document, by the language model; NULL where the document does not say, or for an error (salesai.operator_options)';

create function salesai.is_true(
    statement text, documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns boolean[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value::boolean order by a.number), '{}') end
    from salesai.apply_operator('is_true', documents, jsonb_build_object('statement', statement),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.is_true(text, text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.extract(
    document text, fields text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns jsonb
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('extract', document, jsonb_build_object('fields', fields),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, '')))
$$;
comment on function salesai.extract(text, text[], text, text, text, integer) is
    'Fields of a document as JSON, by the language model, each null where the document does not say. A field is "name", "name: type" or "name: type - description"; types: text, number, integer, boolean, date, or a list of one, as text[]. NULL for an error (salesai.operator_options)';

create function salesai.extract(
    documents text[], fields text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns jsonb[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value order by a.number), '{}') end
    from salesai.apply_operator('extract', documents, jsonb_build_object('fields', fields),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.extract(text[], text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.summarize(
    document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('summarize', document, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.summarize(text, text, text, text, integer) is
    'A document in at most about three sentences, by the language model. One that is longer than the model''s window is summarised a piece at a time, and the summaries once more. NULL for an error (salesai.operator_options)';

create function salesai.summarize(
    documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('summarize', documents, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.summarize(text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar for each round of pieces';

create function salesai.summarize_texts(contents text[]) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$ select salesai.summarize(array_to_string(contents, e'\n\n'), on_error => 'error') $$;
comment on function salesai.summarize_texts(text[]) is 'Ends salesai.summarize_agg';

create aggregate salesai.summarize_agg(content text) (
    sfunc = pg_catalog.array_append, stype = text[], finalfunc = salesai.summarize_texts);
comment on aggregate salesai.summarize_agg(text) is
    'One summary of many texts, in their order (order by), by the language model; not bound by its window. Fails where the model does';

create function salesai.append_text(state text[], content text, instruction text) returns text[]
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select array_append(coalesce(state, array[instruction]), content) $$;
comment on function salesai.append_text(text[], text, text) is 'A step of salesai.agg: the instruction, then the texts';

create function salesai.agg_texts(state text[]) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('agg', array_to_string(state[2:], e'\n\n'), jsonb_build_object('instruction', state[1]),
        salesai.operator_options(on_error => 'error')) #>> '{}'
    where state is not null
$$;
comment on function salesai.agg_texts(text[]) is 'Ends salesai.agg';

create aggregate salesai.agg(content text, instruction text) (
    sfunc = salesai.append_text, stype = text[], finalfunc = salesai.agg_texts);
comment on aggregate salesai.agg(text, text) is
    'What an instruction (that of the first row) makes of many texts, in their order (order by), by the language model; not bound by its window: what does not fit is worked on a piece at a time, and the results once more. Fails where the model does';

create function salesai.apply_cascade(
    operator text, documents text[], arguments jsonb, precision_min double precision default 0.95,
    recall_min double precision default 0.95, confidence double precision default 0.95, seed bigint default 0,
    options jsonb default '{}')
returns table (number integer, value jsonb, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real)
language c volatile parallel unsafe cost 1000000 rows 1000 as 'MODULE_PATHNAME', 'apply_cascade_wrapper';
comment on function salesai.apply_cascade(text, text[], jsonb, double precision, double precision, double precision, bigint, jsonb) is
    'salesai.apply_operator for classify and is_true over many documents: the model (the oracle) judges a random sample and then what a classifier over words, and embeddings where they help, is least sure of; the classifier decides where another random sample says that it may, the model judges the rest. With the confidence, over samples, precision and recall relative to the model''s own answers are at least precision_min and recall_min: of true for is_true; for classify of all labels together (micro-averaged), so both are the share of documents that have the model''s label. Where that needs it, or below 600 documents, the model judges all. decided_by: model or head; the columns after it are the same in all rows: the share that the model judged, and what was reached, as an estimate and as the bound that holds with the confidence. seed: of the samples';

create function salesai.classify_cascade(
    documents text[], labels text[], precision_min double precision default 0.95, recall_min double precision default 0.95,
    confidence double precision default 0.95, people text[] default null, seed bigint default 0, model text default null,
    adapter text default null, on_error text default 'null', timeout_ms integer default null,
    max_error_ratio double precision default 0.5)
returns table (number integer, label text, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real, people_agreement real)
language sql volatile parallel unsafe cost 1000000 rows 1000
set search_path = pg_catalog, pg_temp
as $$
    select c.number, c.value #>> '{}', c.error, c.decided_by, c.model_share, c.precision_estimate, c.precision_bound,
        c.recall_estimate, c.recall_bound,
        (avg(case when people[c.number] is not null then (people[c.number] = c.value #>> '{}' is true)::integer end) over ())::real
    from salesai.apply_cascade('classify', documents, jsonb_build_object('labels', labels), precision_min, recall_min, confidence, seed,
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) c
$$;
comment on function salesai.classify_cascade(text[], text[], double precision, double precision, double precision, text[], bigint, text, text, text, integer, double precision) is
    'salesai.classify for many documents, most of which a small classifier decides, at a precision and recall relative to the model (salesai.apply_cascade). people: labels that people gave, NULL where nobody did; people_agreement: the share of those that the result has too';

create function salesai.is_true_cascade(
    statement text, documents text[], precision_min double precision default 0.95, recall_min double precision default 0.95,
    confidence double precision default 0.95, people boolean[] default null, seed bigint default 0, model text default null,
    adapter text default null, on_error text default 'null', timeout_ms integer default null,
    max_error_ratio double precision default 0.5)
returns table (number integer, is_true boolean, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real, people_agreement real)
language sql volatile parallel unsafe cost 1000000 rows 1000
set search_path = pg_catalog, pg_temp
as $$
    select c.number, c.value::boolean, c.error, c.decided_by, c.model_share, c.precision_estimate, c.precision_bound,
        c.recall_estimate, c.recall_bound,
        (avg(case when people[c.number] is not null then (people[c.number] = (c.value::boolean is true))::integer end) over ())::real
    from salesai.apply_cascade('is_true', documents, jsonb_build_object('statement', statement), precision_min, recall_min, confidence, seed,
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) c
$$;
comment on function salesai.is_true_cascade(text, text[], double precision, double precision, double precision, boolean[], bigint, text, text, text, integer, double precision) is
    'salesai.is_true for many documents, most of which a small classifier decides, at a precision and recall of true relative to the model (salesai.apply_cascade). people: what people said, NULL where nobody did; people_agreement: the share of those that the result has too, NULL in the result counted as not true';

create function salesai.similarity(a text, b text) returns real
language sql stable strict parallel restricted cost 100000
set search_path = pg_catalog, pg_temp
as $$
    with e as materialized (select salesai.embed(array[a, b]) as v)
    select (1 - (e.v[1] operator(@extschema:vector@.<=>) e.v[2]))::real from e
$$;
comment on function salesai.similarity(text, text) is 'Cosine of the embeddings of two texts, by the default embedding model';

create function salesai.similarity(query text, documents text[]) returns real[]
language sql stable strict parallel restricted cost 100000
set search_path = pg_catalog, pg_temp
as $$
    with e as materialized (select salesai.embed(query || documents) as v)
    select array(select (1 - (e.v[1] operator(@extschema:vector@.<=>) d.v))::real
                 from unnest(e.v[2:]) with ordinality d (v, place) order by d.place)
    from e
$$;
comment on function salesai.similarity(text, text[]) is 'The same for many documents, in order, in one call to the sidecar';

create function salesai.query_similarities(query text, documents text[], timeout_ms integer default null) returns real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'query_similarities_wrapper';
comment on function salesai.query_similarities(text, text[], integer) is
    'How near each document is to a query by the default embedding model: cosines in order. The query is embedded as one and the documents as passages, which some models tell apart';

create function salesai.rank(
    query text, documents text[], ids bigint[] default null, model text default null, timeout_ms integer default null)
returns table (id bigint, rank bigint, score real)
language plpgsql stable parallel restricted cost 100000 rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    scores real[];
begin
    if ids is not null and (cardinality(ids) is distinct from cardinality(documents) or array_position(ids, null) is not null) then
        raise exception 'ids must be as many as documents, and not NULL' using errcode = '22023';
    end if;
    if model is not null or exists (
        select from jsonb_array_elements(salesai.sidecar_state() -> 'models') m where m ->> 'kind' = 'reranking')
    then
        scores := salesai.rerank(query, documents, model, timeout_ms);
    else
        scores := salesai.query_similarities(query, documents, timeout_ms);
    end if;
    return query
        select coalesce(i.id, s.place), row_number() over (order by s.score desc, s.place), s.score
        from unnest(scores) with ordinality s (score, place)
        left join unnest(ids) with ordinality i (id, place) on i.place = s.place
        order by 2;
end
$$;
comment on function salesai.rank(text, text[], bigint[], text, integer) is
    'Documents in the order in which they fit a query, best first, by their ids (NULL: their places from 1). score: a logit of the reranking model, or where the sidecar serves none the cosine of embeddings';

drop function salesai.insight(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint);
drop function salesai.keep_insight(text, salesai.insight_result, text, bigint, jsonb);
alter table salesai.insight add column evidence bigint[], add column evidence_sha256 bytea, add column options jsonb,
    add column conversation bigint, add column prompt_version integer;
create index insight_conversation_idx on salesai.insight (conversation);
alter type salesai.insight_result add attribute details jsonb;
comment on type salesai.insight_result is 'method: generated (the model wrote it), extractive (sentences of the evidence) or abstained, then reason says why: no_match, not_permitted, unsupported, conflicting, model_unavailable. details: with explain, what was retrieved and how long each step took; contradictions, where the evidence has some: two statements each in the order of time, with the number of their citation';

create function salesai.reads_nothing() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select row_security_active('salesai.interaction') and not salesai.reads_all() and not exists (select from salesai.interaction)
$$;
comment on function salesai.reads_nothing() is
    'True when row-level security shows the session''s role no interaction at all, be it that there is none';

-- Summaries: which utterances say what an interaction is about.

create table salesai.interaction_summary (
    interaction_id bigint primary key references salesai.interaction on delete cascade,
    version integer not null,
    segment_ids bigint[] not null,
    made_at timestamptz not null default now()
);
comment on table salesai.interaction_summary is
    'The utterances that say what an interaction is about (salesai.key_segments), for questions that many interactions match. It holds no text: what they say is read from the segments, as they are then';
comment on column salesai.interaction_summary.version is 'The version of the interaction that the segments are of';

create function salesai.key_segments(contents text[]) returns integer[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'key_segments_wrapper';
comment on function salesai.key_segments(text[]) is
    'Places, from 1, of up to three texts that say what all of them are about, by how often their words come';

create function salesai.store_summary(interaction_id bigint, version integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.interaction_summary (interaction_id, version, segment_ids)
    select $1, $2, array(select said.ids[k.place] from unnest(salesai.key_segments(said.contents)) k (place))
    from (select array_agg(s.id order by s.position) as ids, array_agg(s.content order by s.position) as contents
          -- Of a book the beginning: its words are counted while the job holds its locks.
          from (select * from salesai.segment s
                where s.interaction_id = $1 and s.version = $2 and s.part = 'body' order by s.position limit 2000) s) said
    where said.ids is not null
    on conflict (interaction_id) do update
    set version = excluded.version, segment_ids = excluded.segment_ids, made_at = excluded.made_at
$$;
comment on function salesai.store_summary(bigint, integer) is 'Makes the summary of an interaction anew; a worker does it whenever it indexes one';

create function salesai.segment_json(said salesai.segment, speaker text) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('segment_id', said.id, 'speaker', speaker, 'start_ms', said.start_ms, 'end_ms', said.end_ms,
        'start_char', said.start_char, 'end_char', said.end_char, 'content', said.content)
$$;
comment on function salesai.segment_json(salesai.segment, text) is 'A segment as evidence has it';

create function salesai.summary_evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with many as (
        select c.interaction_id, c.version, min(u.number) as rank, min(c.heading) as heading, min(c.account_id) as account_id,
            min(c.opportunity_id) as opportunity_id, min(c.occurred_at) as occurred_at, count(*) over () as interactions
        from unnest(chunk_ids) with ordinality u (chunk_id, number)
        join salesai.chunk c on c.id = u.chunk_id
        group by c.interaction_id, c.version)
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', cardinality(chunk_ids) + m.rank, 'interaction_id', m.interaction_id, 'account_id', m.account_id,
        'opportunity_id', m.opportunity_id, 'title', m.heading,
        'occurred_on', to_char(m.occurred_at at time zone 'UTC', 'YYYY-MM-DD'),
        'occurred_ms', floor(1000 * extract(epoch from m.occurred_at))::bigint, 'is_summary', true, 'segments', said.segments)
        order by m.rank), '[]')
    from many m
    join salesai.interaction_summary k on k.interaction_id = m.interaction_id and k.version = m.version
    cross join lateral (
        select jsonb_agg(salesai.segment_json(s, p.label) order by s.position) as segments
        from salesai.segment s left join salesai.speakers(m.interaction_id) p on p.participant_id = s.participant_id
        where s.interaction_id = m.interaction_id and s.version = m.version and s.id = any (k.segment_ids)) said
    -- A few fit side by side, and need nobody to speak for them.
    where m.interactions > 8 and said.segments is not null
$$;
comment on function salesai.summary_evidence(bigint[]) is 'Where chunks are of more than eight interactions: the summary of each, as evidence that is numbered behind the chunks';

create or replace function salesai.evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', u.number, 'interaction_id', c.interaction_id, 'account_id', c.account_id,
        'opportunity_id', c.opportunity_id, 'title', c.heading,
        'occurred_on', to_char(c.occurred_at at time zone 'UTC', 'YYYY-MM-DD'),
        'occurred_ms', floor(1000 * extract(epoch from c.occurred_at))::bigint, 'segments', said.segments) order by u.number), '[]')
        || salesai.summary_evidence(chunk_ids)
    from unnest(chunk_ids) with ordinality u (chunk_id, number)
    join salesai.chunk c on c.id = u.chunk_id
    cross join lateral (
        select jsonb_agg(salesai.segment_json(s, p.label) order by s.position) as segments
        from salesai.segment s left join salesai.speakers(c.interaction_id) p on p.participant_id = s.participant_id
        where s.interaction_id = c.interaction_id and s.version = c.version
          and s.position between c.first_position and c.last_position
          -- What a mail quotes was said before, and is evidence where it was.
          and s.part = 'body'
          -- A long paragraph has several chunks: only what overlaps this one.
          and s.start_char < c.end_char and s.end_char > c.start_char) said
$$;
comment on function salesai.evidence(bigint[]) is 'Numbered evidence for a prompt: the segments of chunks, then salesai.summary_evidence, as the caller may see them';

create function salesai.evidence_digest(evidence jsonb) returns bytea
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(coalesce(jsonb_agg(jsonb_build_array(e.item -> 'title', e.item -> 'occurred_on', s.said ->> 'speaker', s.said ->> 'content')
        order by e.place, s.place), '[]')::text, 'UTF8'))
    from jsonb_array_elements(evidence) with ordinality e (item, place)
    cross join jsonb_array_elements(nullif(e.item -> 'segments', 'null')) with ordinality s (said, place)
$$;
comment on function salesai.evidence_digest(jsonb) is 'SHA-256 of what evidence says, and who and when; where it stands in the original does not count';

create function salesai.insight_filters(
    account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text, seed bigint) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('account', account, 'opportunity', opportunity, 'kinds', kinds, 'since', since,
        'until', until, 'speaker_side', speaker_side, 'seed', seed))
$$;
comment on function salesai.insight_filters(text, text, text[], timestamptz, timestamptz, text, bigint) is
    'What salesai.insight keeps of where it looked';

create function salesai.insight_options(
    evidence_count integer, model text, adapter text, timeout_ms integer, max_tokens integer, seed bigint, method text,
    conversation bigint, asked text) returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if evidence_count is null or evidence_count not between 1 and 50 then
        raise exception 'evidence_count must be between 1 and 50' using errcode = '22023';
    end if;
    if method not in ('generated', 'extractive') then
        raise exception 'method "%" is unknown', method using errcode = '22023', hint = 'Use generated or extractive, or NULL for either.';
    end if;
    return jsonb_strip_nulls(jsonb_build_object('model', model, 'adapter', adapter, 'timeout_ms', timeout_ms,
        'max_tokens', max_tokens, 'seed', seed, 'method', method, 'evidence_count', evidence_count, 'conversation', conversation,
        'asked', case when conversation is not null then asked end));
end
$$;
comment on function salesai.insight_options(integer, text, text, integer, integer, bigint, text, bigint, text) is
    'What salesai.insight keeps of how an answer was made; refuses what makes no sense';

create function salesai.conversation_context(conversation bigint, question text)
returns table (root bigint, asked text, account text, opportunity text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if question is null or question !~ '\S' then
        raise exception 'question must not be empty' using errcode = '22023';
    end if;
    asked := question;
    if conversation is not null then
        select coalesce(i.conversation, i.id) into root
        from salesai.insight i where i.id = conversation_context.conversation;
        if root is null then
            raise exception 'conversation % does not exist', conversation using errcode = 'P0002',
                hint = 'It is the insight_id of an answer that you were given.';
        end if;
        select concat_ws(' ', string_agg(e.question, ' ' order by e.id), conversation_context.question),
            (array_agg(e.filters ->> 'account' order by e.id desc))[1], (array_agg(e.filters ->> 'opportunity' order by e.id desc))[1]
        into asked, account, opportunity
        from (select i.id, i.question, i.filters from salesai.insight i
              where i.id = root or i.conversation = root
              order by i.id desc limit 2) e;
    end if;
    return next;
end
$$;
comment on function salesai.conversation_context(bigint, text) is
    'What a follow-up asks: the last two questions of the conversation and its own, and where the last one looked. root: the first answer';

create function salesai.understood_question(
    question text, account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text,
    evidence_count integer, model text, adapter text, timeout_ms integer, max_tokens integer, seed bigint, method text,
    conversation bigint)
returns table (asked text, filters jsonb, options jsonb)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select c.asked,
        -- A column goes before a parameter of the same name.
        salesai.insight_filters(
            coalesce(understood_question.account, case when understood_question.opportunity is null then c.account end),
            coalesce(understood_question.opportunity, case when understood_question.account is null then c.opportunity end),
            kinds, since, until, speaker_side, seed),
        salesai.insight_options(evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, c.root, c.asked)
    from salesai.conversation_context(conversation, question) c
$$;
comment on function salesai.understood_question(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, bigint) is
    'What the arguments of salesai.insight ask: the question after those before it, where to look (a follow-up that names neither account nor opportunity: where the last answer did), and how to answer';

create function salesai.focused_queries(question text) returns text[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'focused_queries_wrapper';
comment on function salesai.focused_queries(text) is
    'What is searched for a question: itself, then each of those that it joins by "and", with the names that it is about';

create function salesai.retrieve_evidence(question text, filters jsonb, evidence_count integer)
returns table (chunk_ids bigint[], retrieved jsonb, evidence jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Of the whole question as many as are wanted, of each part of it the best.
    with hit as (
        select q.query, q.place, h.chunk_id, h.interaction_id, h.dense_rank, h.lexical_rank, h.score
        from unnest(salesai.focused_queries(question)) with ordinality q (query, place)
        cross join lateral salesai.search(q.query, case q.place when 1 then evidence_count else 1 end, filters ->> 'account', filters ->> 'opportunity',
            case when filters ? 'kinds' then array(select jsonb_array_elements_text(filters -> 'kinds')) end,
            (filters ->> 'since')::timestamptz, (filters ->> 'until')::timestamptz, filters ->> 'speaker_side', around => 0) h),
    chosen as (select distinct on (h.chunk_id) h.* from hit h order by h.chunk_id, h.place)
    select array_agg(c.chunk_id order by c.place, c.score desc, c.chunk_id),
        jsonb_agg(jsonb_build_object('chunk_id', c.chunk_id, 'interaction_id', c.interaction_id, 'dense_rank', c.dense_rank,
            'lexical_rank', c.lexical_rank, 'score', c.score, 'query', c.query)
            order by c.place, c.score desc, c.chunk_id)
    into chunk_ids, retrieved
    from chosen c;
    evidence := salesai.evidence(chunk_ids);
    return next;
end
$$;
comment on function salesai.retrieve_evidence(text, jsonb, integer) is
    'One row: the chunks that answer a question, evidence_count of the whole, best first, then the best of each part (salesai.focused_queries), how search ranked them, and what they say (salesai.evidence)';

create function salesai.insight_details(retrieved jsonb, evidence jsonb, answered jsonb, search_ms numeric, explain boolean) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select nullif(case when answered ? 'contradictions' then jsonb_build_object('contradictions', answered -> 'contradictions') else '{}' end
        || case when explain then jsonb_build_object('retrieved', coalesce(nullif(retrieved, 'null'), '[]'), 'evidence_characters', (
                select coalesce(sum(length(s ->> 'content')), 0)
                from jsonb_array_elements(evidence) e cross join jsonb_array_elements(nullif(e -> 'segments', 'null')) s),
            'search_ms', search_ms, 'prompt_version', answered -> 'prompt_version') || coalesce(answered -> 'timings', '{}') else '{}' end, '{}')
$$;
comment on function salesai.insight_details(jsonb, jsonb, jsonb, numeric, boolean) is 'What there is to say about an answer: what contradicts what in its evidence; with explain also what was retrieved, how much of it was read, by which prompt template the model was asked, how long each step took; NULL where there is nothing';

create function salesai.insight(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, explain boolean default false, conversation bigint default null)
returns salesai.insight_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    understood record;
    found record;
    searched timestamptz;
    answered jsonb;
    result salesai.insight_result;
begin
    select * into understood from salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation);
    select * into found from salesai.retrieve_evidence(understood.asked, understood.filters, evidence_count);
    searched := clock_timestamp();
    answered := salesai.answer_question(understood.asked, found.evidence, understood.options);
    result := jsonb_populate_record(null::salesai.insight_result, answered);
    result.abstained := result.method = 'abstained';
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - started);
    result.details := salesai.insight_details(found.retrieved, found.evidence, answered,
        round(1000 * extract(epoch from searched - started), 1), explain);
    if not current_setting('transaction_read_only')::boolean then
        result.insight_id := salesai.keep_insight(question, result, answered, understood.filters, understood.options,
            found.chunk_ids, found.evidence);
    end if;
    return result;
end
$$;
comment on function salesai.insight(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, boolean, bigint) is
    'Answers a question from the interactions that the caller may see. Every claim has a citation whose quote was found in the stored text; without support it abstains and says why. method: generated (the model writes, or it abstains), extractive (sentences of the evidence, which needs no language model), NULL for the first of them that has something to say. explain: result.details says what was retrieved and what took how long. conversation: the insight_id of an earlier answer that this question follows: it is understood after the two questions before it, and looks at the account or opportunity of the last one unless it names one. timeout_ms: for the answer, default salesai.timeout_ms, which also bounds the search. The answer is kept in salesai.insight, unless the transaction is read-only';

create function salesai.answer_stream(question text, evidence jsonb, options jsonb, kept jsonb) returns setof text
language c volatile strict parallel unsafe cost 1000000 rows 3 as 'MODULE_PATHNAME', 'answer_stream_wrapper';
comment on function salesai.answer_stream(text, jsonb, jsonb, jsonb) is
    'salesai.answer_question a sentence at a time; hands kept to salesai.keep_stream at the end';

create function salesai.insight_stream(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, conversation bigint default null)
returns setof text
language sql volatile cost 1000000 rows 3
set search_path = pg_catalog, pg_temp
as $$
    select salesai.answer_stream(u.asked, f.evidence, u.options, jsonb_build_object('question', question, 'filters', u.filters,
        'options', u.options, 'chunk_ids', f.chunk_ids, 'evidence', f.evidence, 'started', t.started))
    from (select clock_timestamp() as started) t
    cross join lateral salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation) u
    cross join lateral salesai.retrieve_evidence(u.asked, u.filters, evidence_count) f
$$;
comment on function salesai.insight_stream(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, bigint) is
    'salesai.insight a sentence at a time, each with the numbers of its citations, as soon as it is written and borne out by the evidence. In the select list (select salesai.insight_stream(...)) a driver that reads row by row, or a cursor, has each row before the next is written; a FROM clause collects all first. No row: there is no answer, and a notice says why. The answer is kept when it was read to its end';

create function salesai.keep_insight(
    question text, result salesai.insight_result, answered jsonb, filters jsonb, options jsonb, chunk_ids bigint[], evidence jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    insight_id bigint;
begin
    insert into salesai.insight (created_by, question, filters, answer, method, reason, confidence, model,
        model_sha256, adapter, prompt_tokens, completion_tokens, elapsed_ms, adapter_generation, evidence, evidence_sha256, options, conversation,
        prompt_version)
    values (salesai.current_role_name(), question, filters, result.answer, result.method, result.reason,
        result.confidence, result.model, answered ->> 'model_sha256', result.adapter, result.prompt_tokens,
        result.completion_tokens, result.elapsed_ms, (answered ->> 'adapter_generation')::bigint,
        chunk_ids, salesai.evidence_digest(evidence), options - 'conversation', (options ->> 'conversation')::bigint,
        (answered ->> 'prompt_version')::integer)
    returning id into insight_id;
    insert into salesai.citation (insight_id, number, claim, interaction_id, segment_id, speaker, start_ms,
        end_ms, start_char, end_char, quote, similarity)
    select insight_id, c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
        c.start_char, c.end_char, c.quote, c.similarity
    from unnest(result.citations) c;
    return insight_id;
end
$$;
comment on function salesai.keep_insight(text, salesai.insight_result, jsonb, jsonb, jsonb, bigint[], jsonb) is
    'Stores an answer with its citations, and what it was made from; returns its id';

create function salesai.keep_stream(answered jsonb, kept jsonb) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    result salesai.insight_result := jsonb_populate_record(null::salesai.insight_result, answered);
begin
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - (kept ->> 'started')::timestamptz);
    return salesai.keep_insight(kept ->> 'question', result, answered, kept -> 'filters', kept -> 'options',
        case when jsonb_typeof(kept -> 'chunk_ids') = 'array' then array(select jsonb_array_elements_text(kept -> 'chunk_ids')::bigint) end,
        kept -> 'evidence');
end
$$;
comment on function salesai.keep_stream(jsonb, jsonb) is 'Stores the answer of a stream that was read to its end';

create type salesai.insight_replay_result as (
    reproduced boolean, evidence text, model text, kept_answer text, kept_method text, answer text, method text,
    answer_today text, method_today text, evidence_gone bigint[], evidence_new bigint[], template text);
comment on type salesai.insight_replay_result is
    'reproduced: the same answer, method, reason and quotes; evidence: unchanged, changed (some of it is gone, hidden or edited) or gone; model: same or other, by the digest of its weights and the generation of the adapter, NULL where it did not write then or now; template: same or other, whether the prompt template of then is the active one, NULL where no model was asked. answer: from the evidence and by the template of then; answer_today: from what search finds now, by the template of now, NULL where it cannot be asked any more; evidence_gone, evidence_new: chunks that it no longer finds, or did not find then';

create function salesai.insight_replay(insight_id bigint, timeout_ms integer default null) returns salesai.insight_replay_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
-- A kept text would prove nothing.
set salesai.result_cache = off
as $$
declare
    kept salesai.insight;
    options jsonb;
    asked text;
    evidence jsonb;
    answered jsonb;
    today bigint[];
    evidence_today jsonb;
    answered_today jsonb;
    replay salesai.insight_replay_result;
begin
    select * into kept from salesai.insight i where i.id = insight_id;
    if kept.id is null then
        raise exception 'insight % does not exist', insight_id using errcode = 'P0002',
            hint = 'salesai.insight has those that you asked for.';
    end if;
    if kept.options is null then
        raise exception 'insight % cannot be replayed', insight_id using errcode = '55000',
            detail = 'It is of before version 0.3.0, which kept no evidence.';
    end if;
    options := kept.options || jsonb_strip_nulls(jsonb_build_object('timeout_ms', timeout_ms));
    asked := coalesce(options ->> 'asked', kept.question);
    evidence := salesai.evidence(kept.evidence);
    replay.template := case salesai.active_prompt_version('insight', kept.model) = kept.prompt_version
        when true then 'same' when false then 'other' end;
    answered := salesai.answer_question(asked, evidence,
        options || jsonb_strip_nulls(jsonb_build_object('prompt_version', kept.prompt_version)));
    begin
        select coalesce(r.chunk_ids, '{}'), r.evidence into today, evidence_today
        from salesai.retrieve_evidence(asked, kept.filters, (options ->> 'evidence_count')::integer) r;
        answered_today := case when today = coalesce(kept.evidence, '{}') and replay.template is distinct from 'other' then answered
            else salesai.answer_question(asked, evidence_today, options) end;
        replay.answer_today := answered_today ->> 'answer';
        replay.method_today := answered_today ->> 'method';
        replay.evidence_gone := array(select unnest(kept.evidence) except select unnest(today));
        replay.evidence_new := array(select unnest(today) except select unnest(kept.evidence));
    -- An account or opportunity that is gone, hidden or no longer the only one of its name.
    exception when no_data_found or invalid_parameter_value then
        null;
    end;
    replay.evidence := case
        when kept.evidence_sha256 = salesai.evidence_digest(evidence) then 'unchanged'
        when evidence = '[]' then 'gone'
        else 'changed' end;
    replay.model := case
        when kept.model_sha256 is null or not answered ? 'model_sha256' then null
        when kept.model_sha256 = answered ->> 'model_sha256'
            and kept.adapter_generation is not distinct from (answered ->> 'adapter_generation')::bigint then 'same'
        else 'other' end;
    replay.kept_answer := kept.answer;
    replay.kept_method := kept.method;
    replay.answer := answered ->> 'answer';
    replay.method := answered ->> 'method';
    replay.reproduced := (kept.answer, kept.method, kept.reason) is not distinct from (replay.answer, replay.method, answered ->> 'reason')
        and array(select c.quote from salesai.citation c where c.insight_id = kept.id order by c.number)
            = array(select c ->> 'quote' from jsonb_array_elements(coalesce(nullif(answered -> 'citations', 'null'), '[]')) with ordinality c (c, place)
                    order by place);
    return replay;
end
$$;
comment on function salesai.insight_replay(bigint, integer) is
    'Answers a kept question again: from the evidence of then with its options, seed and prompt template, which gives the same answer as long as evidence and weights are the same, and from what search finds today, by the template of today. Under the caller''s rights; nothing is kept. timeout_ms (NULL: as then) is for each of the two answers';

-- insight() through the queue, for slow models: a question is stored, and a worker answers it with the rights that who
-- asked has then. Leases, classes of failures and pauses are those of salesai.job.

create table salesai.insight_request (
    id bigint generated always as identity primary key,
    asked_by text not null,
    -- Whose rights it has, and who had logged in: a name may be given to another role.
    asker_id oid not null,
    login_id oid not null,
    question text not null,
    asked text not null,
    filters jsonb not null,
    options jsonb not null,
    explain boolean not null,
    state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
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
    insight_id bigint references salesai.insight on delete cascade,
    details jsonb,
    created_at timestamptz not null default now(),
    created_in xid8 not null default pg_current_xact_id(),
    finished_at timestamptz,
    check ((state = 'running') = (lease_token is not null)),
    check ((state = 'done') = (insight_id is not null)),
    check ((state in ('queued', 'running')) = (finished_at is null))
);
create index insight_request_due_index on salesai.insight_request (asked_by, not_before, id) where state = 'queued';
create index insight_request_running_index on salesai.insight_request (lease_expires_at) where state = 'running';
create index insight_request_open_index on salesai.insight_request (asked_by) where state in ('queued', 'running');
create index insight_request_finished_index on salesai.insight_request (finished_at) where finished_at is not null;
create index insight_request_insight_index on salesai.insight_request (insight_id) where insight_id is not null;
comment on table salesai.insight_request is
    'Questions of salesai.insight_submit and what became of them; who asked sees them, and roles that read and write everything. error_*: the last failure, also of one that is tried again';
comment on column salesai.insight_request.asked is 'The question as it is understood: after the questions before it';
comment on column salesai.insight_request.losses is 'How often its holder died or lost its lease; a question that kills its holders fails in the end';

create function salesai.is_asker(asker_id oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select asker_id = (select r.oid from pg_roles r where r.rolname = salesai.current_role_name()) $$;
comment on function salesai.is_asker(oid) is 'Whether this is the session''s role, and not one that had its name';

create function salesai.check_answer_options(options jsonb) returns void
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'check_answer_options_wrapper';
comment on function salesai.check_answer_options(jsonb) is
    'Refuses what salesai.answer_question would: a limit that makes no sense, an adapter that is not active or belongs to another model';

create function salesai.insight_submit(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, explain boolean default false, conversation bigint default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    understood record;
begin
    select * into understood from salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation);
    -- What search and the answer would refuse.
    perform salesai.search_filters(understood.filters ->> 'account', understood.filters ->> 'opportunity', kinds, since, until, speaker_side, null, null, null, null, null, null);
    perform salesai.check_answer_options(understood.options);
    return salesai.enqueue_insight(question, understood.asked, understood.filters, understood.options, coalesce(explain, false));
end
$$;
comment on function salesai.insight_submit(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, boolean, bigint) is
    'salesai.insight through the queue: checks and stores the question and returns its number for salesai.insight_result at once. A worker, or salesai.process(), answers it with the rights that the caller''s role has then. timeout_ms: for the model, default and at most salesai.job_timeout_ms';

-- Owner rights: whose rights a question has is not the caller's to say.
create function salesai.enqueue_insight(question text, asked text, filters jsonb, options jsonb, explain boolean) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    open_max constant integer := 1000;
    who constant text := salesai.current_role_name();
    request_id bigint;
begin
    if (select count(*) from (select from salesai.insight_request r
                              where r.asked_by = who and r.state in ('queued', 'running') limit open_max) open) >= open_max then
        raise exception 'too many questions wait' using errcode = '53400',
            detail = format('%s questions of role "%s" have no answer yet.', open_max, who),
            hint = 'Submit it again later, or cancel some by salesai.insight_cancel.';
    end if;
    insert into salesai.insight_request (asked_by, asker_id, login_id, question, asked, filters, options, explain)
    values (who, (select r.oid from pg_roles r where r.rolname = who), (select r.oid from pg_roles r where r.rolname = session_user),
        question, asked, filters, options, explain)
    returning id into request_id;
    perform salesai.wake_worker();
    return request_id;
end
$$;
comment on function salesai.enqueue_insight(text, text, jsonb, jsonb, boolean) is 'Stores a question of the session''s role; used by salesai.insight_submit';

create function salesai.insight_result(request bigint, wait_ms integer default 0) returns salesai.insight_result
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    wait_ms_max constant integer := 86400000;
    deadline timestamptz;
    pause_s double precision := 0.01;
    found record;
    result salesai.insight_result;
begin
    if wait_ms is null or wait_ms not between 0 and wait_ms_max then
        raise exception 'wait_ms must be between 0 and %', wait_ms_max using errcode = '22023';
    end if;
    deadline := clock_timestamp() + make_interval(secs => wait_ms / 1000.0);
    loop
        -- A new snapshot each time.
        select r.*, r.created_in = pg_current_xact_id_if_assigned() as is_uncommitted into found
        from salesai.insight_request r where r.id = request;
        if found.id is null then
            raise exception 'request % does not exist', request using errcode = 'P0002',
                hint = 'Give the number that salesai.insight_submit returned, as the role that asked.';
        end if;
        exit when found.state not in ('queued', 'running') or clock_timestamp() >= deadline;
        if found.is_uncommitted or current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'this transaction cannot wait for an answer' using errcode = '55000',
                detail = 'It would not see what a worker commits, or the worker does not see the question before this one commits.',
                hint = 'Commit after salesai.insight_submit, and wait at isolation level read committed.';
        end if;
        perform pg_sleep(least(pause_s, extract(epoch from deadline - clock_timestamp())));
        pause_s := least(pause_s * 1.5, 0.2);
    end loop;
    if found.state in ('queued', 'running') then
        if found.error_message is not null then
            raise notice 'request % is tried again: %', request, found.error_message;
        end if;
        return null;
    elsif found.state = 'cancelled' then
        raise exception 'request % was cancelled', request using errcode = '57014',
            hint = 'Submit the question again if an answer is wanted.';
    elsif found.state = 'failed' then
        raise exception 'request % failed', request using errcode = found.error_code,
            detail = format('%s (%s, attempts: %s).', upper(left(found.error_message, 1)) || substr(found.error_message, 2),
                found.error_class, found.attempts),
            hint = coalesce(found.error_hint, 'Submit the question again when the cause is mended.');
    end if;
    select i.answer,
        (select array_agg(row(c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
                c.start_char, c.end_char, c.quote, c.similarity)::salesai.insight_citation order by c.number)
         from salesai.citation c where c.insight_id = i.id),
        i.confidence, i.method, i.method = 'abstained', i.reason, i.model, i.adapter, i.prompt_tokens, i.completion_tokens,
        i.elapsed_ms, i.id, found.details
    into result
    from salesai.insight i where i.id = found.insight_id;
    return result;
end
$$;
comment on function salesai.insight_result(bigint, integer) is
    'The answer to a question of salesai.insight_submit, as salesai.insight gives it; NULL while there is none, with a notice when something keeps it. Waits up to wait_ms for it. Fails with the SQLSTATE of what failed, 57014 for one that was cancelled, P0002 for one that does not exist or is not the caller''s';

-- Owner rights: nobody but a worker changes a question, and this only what the caller sees.
create function salesai.insight_cancel(request bigint) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- salesai.process() holds what it answers until its transaction ends.
set lock_timeout = '5s'
as $$
declare
    is_known boolean;
begin
    update salesai.insight_request r
    set state = 'cancelled', finished_at = clock_timestamp(),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where r.id = request and r.state in ('queued', 'running')
      and (salesai.is_asker(r.asker_id) or (select salesai.reads_all() and salesai.writes()));
    if found then
        return true;
    end if;
    select true into is_known from salesai.insight_request r
    where r.id = request and (salesai.is_asker(r.asker_id) or (select salesai.reads_all() and salesai.writes()));
    if is_known is null then
        raise exception 'request % does not exist', request using errcode = 'P0002',
            hint = 'Give the number that salesai.insight_submit returned, as the role that asked.';
    end if;
    return false;
end
$$;
comment on function salesai.insight_cancel(bigint) is
    'Cancels a question of salesai.insight_submit; a model that is at it stops within about a second. False when it had ended already';

-- What a worker does, each in a short transaction. First one of each role, whichever by chance, then the second of each.
create function salesai.due_requests(requests_max integer) returns table (request_id bigint, rank bigint)
language sql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
    with recursive asker as (
        (select r.asked_by from salesai.insight_request r where r.state = 'queued' order by r.asked_by limit 1)
        union all
        select n.asked_by
        from asker a
        cross join lateral (
            select r.asked_by from salesai.insight_request r
            where r.state = 'queued' and r.asked_by > a.asked_by order by r.asked_by limit 1) n)
    select d.id, row_number() over (order by d.turn, a.chance)
    from (select *, random() as chance from asker) a
    cross join lateral (
        select f.id, row_number() over (order by f.not_before, f.id) as turn
        from (select r.id, r.not_before from salesai.insight_request r
              where r.state = 'queued' and r.asked_by = a.asked_by and r.not_before <= clock_timestamp()
                and salesai.may_act_for(r.asker_id)
              order by r.not_before, r.id limit requests_max) f) d
    where not exists (select from salesai.queue_pause p where p.source = '')
    order by 2
    limit requests_max
$$;
comment on function salesai.due_requests(integer) is 'The next questions to be answered: of each role in turn';

create function salesai.may_act_for(asker_id oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- One that is gone has no rights to act with, and is told so.
    select pg_has_role(session_user, asker_id, 'SET') or not exists (select from pg_roles r where r.oid = asker_id)
$$;
comment on function salesai.may_act_for(oid) is 'Whether this session may take this role: a worker any, salesai.process() those that its session may set';

create function salesai.has_due_requests() returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from salesai.insight_request r
                   where r.state = 'running' and salesai.is_lost(r.lease_expires_at, r.holder_pid, r.holder_started_at))
        or exists (select from salesai.due_requests(1))
$$;
comment on function salesai.has_due_requests() is 'Whether salesai.claim_request may find something';

create function salesai.claim_request(lease_ms integer) returns table (request_id bigint, lease_token uuid)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses_max constant integer := 10;
    lost record;
begin
    -- Whoever holds it dies: it fails, so that others get their turn.
    for lost in select * from salesai.insight_request r where r.state = 'running' and r.losses >= losses_max for update skip locked loop
        if salesai.is_lost(lost.lease_expires_at, lost.holder_pid, lost.holder_started_at) then
            perform salesai.fail_request(lost.id, lost.lease_token, 'record_permanent', '58000',
                format('its worker died or was too slow %s times', losses_max), null, null);
        end if;
    end loop;
    return query
    with lost as materialized (
        select r.id from salesai.insight_request r
        where r.state = 'running' and salesai.is_lost(r.lease_expires_at, r.holder_pid, r.holder_started_at)
          and salesai.may_act_for(r.asker_id)
        limit 1
        for update skip locked),
    due as materialized (
        select r.id
        from salesai.due_requests(64) d
        join salesai.insight_request r on r.id = d.request_id
        where r.state = 'queued'
        order by d.rank
        limit 1
        for update of r skip locked)
    update salesai.insight_request r
    set state = 'running', lease_token = gen_random_uuid(), losses = r.losses + (r.state = 'running')::integer,
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0),
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from (select l.id from lost l union all select d.id from due d limit 1) claimed
    where r.id = claimed.id
    returning r.id, r.lease_token;
end
$$;
comment on function salesai.claim_request(integer) is 'Leases a question to this backend';

-- Somebody may cancel it and not commit: nobody waits long for that.
create function salesai.renew_request(request_id bigint, lease_token uuid, lease_ms integer) returns boolean
language sql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
    update salesai.insight_request r set lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
    where r.id = $1 and r.lease_token = $2
    returning true
$$;
comment on function salesai.renew_request(bigint, uuid, integer) is 'Renews a lease; NULL when it was lost, or the question was cancelled';

create function salesai.lock_request(request_id bigint, lease_token uuid) returns boolean
language sql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$ select true from salesai.insight_request r where r.id = $1 and r.lease_token = $2 for update $$;
comment on function salesai.lock_request(bigint, uuid) is 'Locks a leased question, so that nobody else ends it; NULL when the lease was lost';

create function salesai.leased_request(request_id bigint, lease_token uuid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('role', r.asked_by, 'problem', salesai.asker_problem(r.asked_by, r.asker_id, r.login_id),
        'question', r.question, 'asked', r.asked, 'filters', r.filters, 'options', r.options, 'explain', r.explain)
    from salesai.insight_request r where r.id = $1 and r.lease_token = $2
$$;
comment on function salesai.leased_request(bigint, uuid) is 'What a leased question asks, and why nobody may answer it; NULL when the lease was lost';

create function salesai.asker_problem(role_name text, asker_id oid, login_id oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when not exists (select from pg_roles r where r.oid = asker_id and r.rolname = role_name)
            then format('role "%s", which asked, does not exist any more', role_name)
        when not exists (select from pg_roles r where r.oid = login_id)
            then format('the role that had logged in to ask as "%s" does not exist any more', role_name)
        when not pg_has_role(login_id, asker_id, 'SET')
            then format('who asked may not act as role "%s" any more', role_name)
        when not has_schema_privilege(asker_id, 'salesai', 'usage')
            or not has_function_privilege(asker_id, 'salesai.gather_evidence(text, jsonb, jsonb)', 'execute')
            then format('role "%s" may not use salesai any more', role_name)
    end
$$;
comment on function salesai.asker_problem(text, oid, oid) is 'Why a question has lost the rights that it was asked with; NULL when it has not';

-- The next two run with the rights of who asked. Nobody waits for their errors, so they return them.
create function salesai.gather_evidence(asked text, filters jsonb, options jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    gathered record;
    code text;
    message text;
    hint text;
begin
    select * into gathered from salesai.retrieve_evidence(asked, filters, (options ->> 'evidence_count')::integer);
    return jsonb_build_object('chunk_ids', gathered.chunk_ids, 'retrieved', gathered.retrieved, 'evidence', gathered.evidence,
        'search_ms', round(1000 * extract(epoch from clock_timestamp() - started), 1));
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    return jsonb_build_object('error', jsonb_build_object('code', code, 'message', message, 'hint', nullif(hint, '')));
end
$$;
comment on function salesai.gather_evidence(text, jsonb, jsonb) is 'salesai.retrieve_evidence as JSON, and how long it took, or why it failed';

-- request: salesai.leased_request; gathered: salesai.gather_evidence; answered: salesai.answer_question.
create function salesai.keep_answer(request jsonb, gathered jsonb, answered jsonb, elapsed_ms integer) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- As in salesai.finish_job.
set lock_timeout = '30s'
as $$
declare
    result salesai.insight_result := jsonb_populate_record(null::salesai.insight_result, answered);
    chunk_ids bigint[];
    insight_id bigint;
    code text;
    message text;
    hint text;
begin
    if jsonb_typeof(gathered -> 'chunk_ids') = 'array' then
        chunk_ids := array(select c::bigint from jsonb_array_elements_text(gathered -> 'chunk_ids') with ordinality e (c, place) order by place);
    end if;
    result.elapsed_ms := elapsed_ms;
    insight_id := salesai.keep_insight(request ->> 'question', result, answered, request -> 'filters', request -> 'options',
        chunk_ids, gathered -> 'evidence');
    -- What is cited cannot go away now; what was shown to the model may have gone, or changed, while it wrote.
    if salesai.evidence_digest(salesai.evidence(chunk_ids)) is distinct from salesai.evidence_digest(gathered -> 'evidence') then
        raise exception 'the evidence changed meanwhile' using errcode = '40001';
    end if;
    return jsonb_build_object('insight_id', insight_id, 'details', salesai.insight_details(
        gathered -> 'retrieved', gathered -> 'evidence', answered, (gathered ->> 'search_ms')::numeric, (request ->> 'explain')::boolean));
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    return jsonb_build_object('error', jsonb_build_object('code', code, 'message', message, 'hint', nullif(hint, '')));
end
$$;
comment on function salesai.keep_answer(jsonb, jsonb, jsonb, integer) is
    'Keeps the answer to a question as salesai.insight does, if its evidence still says the same: {insight_id, details}, or why it failed, and then nothing is kept';

create function salesai.finish_request(request_id bigint, lease_token uuid, insight_id bigint, details jsonb) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.insight_request r
    set state = 'done', insight_id = $3, details = $4, finished_at = clock_timestamp(),
        error_class = null, error_code = null, error_message = null, error_hint = null,
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where r.id = $1 and r.lease_token = $2
    returning true
$$;
comment on function salesai.finish_request(bigint, uuid, bigint, jsonb) is 'Notes that a leased question has its answer';

create function salesai.fail_request(
    request_id bigint, lease_token uuid, class text, code text, message text, hint text, retry_ms integer) returns void
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
    update salesai.insight_request r
    set attempts = r.attempts + is_own_fault::integer,
        state = f.state, finished_at = case f.state when 'failed' then clock_timestamp() end,
        not_before = clock_timestamp() + make_interval(secs => coalesce(fail_request.retry_ms / 1000.0, pause_s * case class
            when 'pipeline_temporary' then 5 when 'pipeline_permanent' then 30 else 2 ^ r.attempts end)),
        error_class = class, error_code = code, error_message = message, error_hint = hint,
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    from (select o.id, case when class = 'record_permanent' or is_own_fault and o.attempts + 1 >= attempts_max then 'failed' else 'queued' end as state
          from salesai.insight_request o where o.id = $1 and o.lease_token = $2 for update) f
    where r.id = f.id;
end
$$;
comment on function salesai.fail_request(bigint, uuid, text, text, text, text, integer) is
    'Notes that a leased question failed, in the classes of salesai.fail_job; retry_ms: when it is tried again, where the class does not say';

create function salesai.purge_requests(older_than interval default '30 days') returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    with gone as (delete from salesai.insight_request r where r.finished_at < now() - older_than returning 1)
    select count(*) from gone
$$;
comment on function salesai.purge_requests(interval) is
    'Deletes questions that ended longer ago; how many. Their answers stay in salesai.insight. A worker does it by itself';

-- Owner rights: how many questions wait is no secret.
create function salesai.request_counts(out queued bigint, out running bigint, out failed bigint, out oldest_due_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select count(*) filter (where r.state = 'queued'), count(*) filter (where r.state = 'running'),
        count(*) filter (where r.state = 'failed'), min(r.not_before) filter (where r.state = 'queued')
    from salesai.insight_request r
$$;
comment on function salesai.request_counts() is 'Questions of salesai.insight_submit, of all roles; oldest_due_at: since when one could be answered';

create function salesai.note_outage(code text, message text, hint text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.insight_request r
    set error_class = 'pipeline_temporary', error_code = $1, error_message = $2, error_hint = $3
    -- Once, and not what somebody is about to change.
    where r.id in (select q.id from salesai.insight_request q
                   where q.state = 'queued' and (q.error_code, q.error_message) is distinct from ($1, $2)
                   order by q.id limit 1000 for update skip locked);
    update salesai.column_task t
    set error_code = $1, error_message = $2, error_hint = $3
    where t.id in (select c.id from salesai.column_task c join salesai.due_column_tasks() d on d.id = c.id
                   where (c.error_code, c.error_message) is distinct from ($1, $2) for no key update of c skip locked)
$$;
comment on function salesai.note_outage(text, text, text) is 'Notes at the questions that wait, and at column tasks, why nobody can answer them now';

drop function salesai.lexical_query(text);

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

-- What an operator looks at.

-- Owner rights: how old a job is, is no secret, and row-level security would read all of them.
create function salesai.oldest_job(source text) returns timestamptz
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select min(j.created_at) from salesai.job j where j.source = $1 and j.state <> 'failed' $$;
comment on function salesai.oldest_job(text) is 'When the oldest job of a source was queued that is not done';

create view salesai.source_status with (security_invoker) as
with counted as (
    select c.source, coalesce(sum(c.delta) filter (where c.state = 'pending'), 0)::bigint as pending,
        coalesce(sum(c.delta) filter (where c.state = 'running'), 0)::bigint as running,
        coalesce(sum(c.delta) filter (where c.state = 'failed'), 0)::bigint as failed,
        salesai.oldest_job(c.source) as oldest_created_at
    from salesai.job_count c
    group by c.source),
finished as (
    -- Since the first of them: what began a minute ago is not slower than it is.
    select i.source, count(*) / greatest(extract(epoch from clock_timestamp() - min(i.processed_at)), 1) as per_second
    from salesai.interaction i
    where i.processed_at > now() - interval '5 minutes' group by i.source)
select c.source, c.pending, c.running, c.failed, c.oldest_created_at,
    coalesce(extract(epoch from clock_timestamp() - c.oldest_created_at), 0)::numeric(12, 3) as lag_s,
    coalesce(f.per_second, 0)::numeric(12, 3) as finished_per_s,
    ((c.pending + c.running) / f.per_second)::numeric(12, 1) as eta_s,
    exists (select from salesai.queue_pause p where p.source in ('', c.source)) as paused
from counted c
left join finished f on f.source = c.source;
comment on view salesai.source_status is
    'The queue by source; the empty one is work on embedding sets. lag_s: age of the oldest job that is not done; finished_per_s: interactions that the caller may see, since the first that was finished in the last 5 minutes; eta_s: NULL when nothing was finished in them';

create or replace view salesai.queue_status with (security_invoker) as
select coalesce(sum(s.pending), 0)::bigint as pending, coalesce(sum(s.running), 0)::bigint as running,
    coalesce(sum(s.failed), 0)::bigint as failed, min(s.oldest_created_at) as oldest_created_at,
    coalesce(max(s.lag_s), 0)::numeric(12, 3) as lag_s,
    (sum(s.pending + s.running) filter (where s.source <> '') / nullif(sum(s.finished_per_s), 0))::numeric(12, 1) as eta_s
from salesai.source_status s;
comment on view salesai.queue_status is
    'Exact counts of all jobs, at the same cost however many there are. lag_s: age of the oldest job that is not done; eta_s: from the rate of the last 5 minutes, NULL when nothing was finished in them';

create or replace view salesai.pipeline_errors with (security_invoker) as
select e.occurred_at, e.interaction_id, i.source, i.external_id, e.kind, e.class, e.step, e.message, e.attempt, j.state as job_state,
    j.not_before as next_attempt_at
from salesai.job_error e
left join salesai.interaction i on i.id = e.interaction_id
left join salesai.job j on j.id = e.job_id;
comment on view salesai.pipeline_errors is
    'Failures of jobs, newest and old; job_state failed: waits for salesai.retry_errors(); pending: is tried again at next_attempt_at; NULL: done since';

create view salesai.backfills with (security_invoker) as
with rate as materialized (select s.source, s.finished_per_s from salesai.source_status s)
select b.id, b.source, b.since, b.until, b.everything, b.started_at, b.started_by, b.queued,
    b.queued - l.waiting - l.failed as done, l.waiting, l.failed,
    case l.waiting when 0 then 0 else l.waiting / nullif(
        (select sum(r.finished_per_s) from rate r where b.source is null or r.source = b.source), 0) end::numeric(12, 1) as eta_s
from salesai.backfill b
cross join lateral (
    select count(*) filter (where j.state <> 'failed') as waiting, count(*) filter (where j.state = 'failed') as failed
    from salesai.job j where j.backfill_id = b.id) l;
comment on view salesai.backfills is
    'Calls of salesai.backfill and how far they are: interactions that were queued, are done (or deleted since), wait (counted) and failed; eta_s: from the rate of the last 5 minutes, NULL when nothing was finished in them';

-- Owner rights: how many entries there are is no secret.
create function salesai.index_sizes()
returns table (name text, method text, embedding_set_id bigint, entries bigint, waiting bigint, is_complete boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with lexical as (
        select (select coalesce(sum(g.chunk_count), 0)::bigint from salesai.lexical_segment g) as entries,
            (select count(*) from salesai.lexical_delta) as waiting),
    vectors as (
        select s.id, s.index_method, salesai.embedding_count(s.id) as vectors, salesai.embedding_index_steps(s.id) = '{}' as is_complete,
            (select count(*) from salesai.embedding_delta d where d.set_id = s.id) as uncoded
        from salesai.embedding_set s)
    -- As few as are left for search to read.
    select 'lexical', 'postings', null::bigint, l.entries, l.waiting, l.waiting < 256 from lexical l
    union all
    select 'embedding_' || v.id, v.index_method, v.id, v.vectors - w.waiting, w.waiting, v.is_complete
    from vectors v
    cross join lateral (
        select case when v.index_method = 'codes' then least(v.uncoded, v.vectors) when v.is_complete then 0 else v.vectors end as waiting) w
$$;
comment on function salesai.index_sizes() is 'Entries of each index of search, and chunks or vectors that are to come';

create view salesai.index_progress with (security_invoker) as
select i.name, i.method, i.embedding_set_id, i.entries, i.waiting,
    (case when i.is_complete then 1 else coalesce(
        salesai.index_build_progress(i.name), i.entries::real / nullif(i.entries + i.waiting, 0), 0) end)::real as progress
from salesai.index_sizes() i;
comment on view salesai.index_progress is
    'Indexes of search and how far each is built, from 0 to 1: the postings of chunks, and codes or a graph (hnsw) of each embedding set. What waits for postings or codes is found too, read one by one; without its graph a set is read as a whole. Chunks that are gone stay in the postings until segments are merged';

create function salesai.embedding_eta_s(set_id bigint) returns numeric
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select case when n.embeddings >= n.chunks then 0
        when n.embeddings > s.filled_before then least(1e10,
            (n.chunks - n.embeddings) * extract(epoch from clock_timestamp() - s.filling_since) / (n.embeddings - s.filled_before))
        end::numeric(12, 1)
    from salesai.embedding_set s
    cross join lateral (
        select (select count(*) from salesai.chunk) as chunks, salesai.embedding_count(s.id) as embeddings) n
    where s.id = set_id and s.state = 'building'
$$;
comment on function salesai.embedding_eta_s(bigint) is
    'Seconds until a set that is being filled has all embeddings, at its average rate since that began; NULL before the first';

create view salesai.embedding_sets with (security_invoker) as
select s.id, s.model, s.model_sha256, s.dimensions, s.element, s.template, s.state,
    (select count(*) from salesai.chunk) as chunks, p.entries + p.waiting as embeddings, p.progress as index_progress,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state <> 'failed') as jobs,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state = 'failed') as failed_jobs,
    s.switch_when_complete, s.created_at, s.activated_at, s.index_method, salesai.embedding_eta_s(s.id) as eta_s
from salesai.embedding_set s
join salesai.index_progress p on p.embedding_set_id = s.id;
comment on view salesai.embedding_sets is
    'Embedding sets and how far each is: embeddings of chunks (counted, so it takes a while on large ones; chunks are those that the caller may see), index_progress from 0 to 1, jobs that are left, eta_s: seconds until a set that is built has all embeddings';

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
         'Name this database in salesai.worker_databases and reload the configuration: select pg_reload_conf().'),
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
    select * into active from salesai.embedding_set s where s.state = 'active';
    select m into embedding_model from jsonb_array_elements(sidecar -> 'models') m where m ->> 'name' = active.model;
    return query values
        ('embedding_set', active.id is not null and (sidecar ->> 'error' is not null or embedding_model ->> 'sha256' = active.model_sha256) is true,
         case when active.id is null then 'none yet'
              when embedding_model ->> 'sha256' <> active.model_sha256 then format('made by other weights of "%s"', active.model)
              when embedding_model is null and sidecar ->> 'error' is null then format('the sidecar does not serve "%s"', active.model)
              else format('%s, %s dimensions', active.model, active.dimensions) end,
         'It is made by the first processed interaction. The sidecar must run the model that made it until salesai.reembed() has made another.');
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
    select coalesce(sum(c.delta), 0) into failed from salesai.job_count c where c.state = 'failed';
    return query values
        ('queue_running', not exists (select from salesai.queue_pause),
         (select coalesce('paused: ' || string_agg(coalesce(nullif(p.source, ''), 'all'), ', ' order by p.source), 'running')
          from salesai.queue_pause p),
         'Call salesai.resume() when the pause is over.'),
        ('failed_jobs', failed = 0, failed::text, 'See salesai.pipeline_errors, mend the cause, then select salesai.retry_errors().');
    return query
        select 'insight_requests', coalesce(c.oldest_due_at > now() - interval '5 minutes', true),
            format('%s wait, %s are being answered, %s failed', c.queued, c.running, c.failed),
            'Questions wait: salesai.insight_request says why (error_message). They need a worker, a sidecar and a queue that is not paused.'
        from salesai.request_counts() c;
    return query
        select 'column_tasks', count(*) filter (where t.state = 'blocked' or t.failed > 0) = 0,
            format('%s, %s blocked, %s rows failed', count(*), count(*) filter (where t.state = 'blocked'), coalesce(sum(t.failed), 0)),
            'See salesai.column_tasks and salesai.column_task_errors, mend the cause, then select salesai.column_task_resume() or salesai.column_task_retry().'
        from salesai.column_tasks t;
end
$$;
comment on function salesai.doctor() is 'Each piece that the system needs, whether it works, and how to mend it when it does not';

alter table salesai.interaction_summary enable row level security, force row level security;
create policy visible on salesai.interaction_summary
    using (exists (select from salesai.interaction i where i.id = interaction_id))
    with check ((exists (select from salesai.interaction i where i.id = interaction_id)) and (select salesai.writes()));

-- Words of customers, which nobody reads row by row.
alter table salesai.posting_list enable row level security, force row level security;
create policy worker on salesai.posting_list to salesai_worker using (true);
alter table salesai.lexical_delta enable row level security, force row level security;
create policy worker on salesai.lexical_delta to salesai_worker using (true);
alter table salesai.embedding_code_index enable row level security, force row level security;
create policy worker on salesai.embedding_code_index to salesai_worker using (true);
alter table salesai.embedding_delta enable row level security, force row level security;
create policy worker on salesai.embedding_delta to salesai_worker using (true);
alter table salesai.result_cache enable row level security, force row level security;
create policy worker on salesai.result_cache to salesai_worker using (true);

-- Whom the answer belongs to. Only a worker changes one.
alter table salesai.insight_request enable row level security, force row level security;
create policy own on salesai.insight_request for select
    using (salesai.is_asker(asker_id) or (select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.insight_request to salesai_worker using (true);

-- A column task belongs to whoever has the rights of the table's owner, whose rights it has.
alter table salesai.column_task enable row level security, force row level security;
create policy own on salesai.column_task using (salesai.is_column_owner(owner_name))
    with check (salesai.is_column_owner(owner_name)
                and owner_name = (select pg_catalog.pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = relation));
create policy reads_all on salesai.column_task for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_task to salesai_worker using (true);
alter table salesai.column_task_version enable row level security, force row level security;
create policy own on salesai.column_task_version using (task_id in (select t.id from salesai.column_task t where salesai.is_column_owner(t.owner_name)));
create policy reads_all on salesai.column_task_version for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_task_version to salesai_worker using (true);
alter table salesai.column_value enable row level security, force row level security;
create policy own on salesai.column_value using (task_id in (select t.id from salesai.column_task t where salesai.is_column_owner(t.owner_name)));
create policy reads_all on salesai.column_value for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_value to salesai_worker using (true);

alter function salesai.process(integer, integer) set search_path = pg_catalog, pg_temp;
comment on function salesai.process(integer, integer) is
    'Drains up to max_jobs jobs in this session, then questions of salesai.insight_submit and rows of column tasks by roles that the session may set, for servers without the background worker; returns how many were finished. Holds this statement''s transaction while the model runs';

-- Prompt templates: what a model is told to do, as versions with a test set. Version 1 of a task is built into the library
-- (domain/src/prompt_template.rs); rows are those that somebody made. What fences the data is no part of a template.

create function salesai.prompt_tasks() returns text[]
language c immutable parallel safe as 'MODULE_PATHNAME', 'prompt_tasks_wrapper';
comment on function salesai.prompt_tasks() is 'Tasks that have prompt templates';

create function salesai.built_in_prompt(task text) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'built_in_prompt_wrapper';
comment on function salesai.built_in_prompt(text) is 'Text of version 1 of a task''s prompt template';

create function salesai.check_prompt_template(task text, text text) returns void
language c immutable parallel safe as 'MODULE_PATHNAME', 'check_prompt_template_wrapper';
comment on function salesai.check_prompt_template(text, text) is
    'Refuses a text that is no prompt template of the task: one that is blank or above 8 KiB, that has other placeholders than the task''s or not each once, or marks that could be taken for those around data';

create table salesai.prompt_template (
    task text not null check (task = any (salesai.prompt_tasks())),
    version integer not null check (version > 1),
    model text,
    text text not null,
    state text not null default 'draft' check (state in ('draft', 'active', 'retired')),
    note text,
    created_by text not null,
    created_at timestamptz not null default now(),
    activated_by text,
    activated_at timestamptz,
    is_forced boolean,
    replaced_version integer,
    primary key (task, version),
    check ((state = 'draft') = (activated_at is null))
);
create unique index prompt_template_active_index on salesai.prompt_template (task, model) nulls not distinct where state = 'active';
comment on table salesai.prompt_template is
    'Prompt templates that somebody made; the built-in ones, version 1 of each task, are in salesai.prompt_templates as well. The active one for the model that is asked goes before the active one for any model, that before the built-in one';
comment on column salesai.prompt_template.model is 'The model that it is for; NULL for any';
comment on column salesai.prompt_template.is_forced is 'Whether it was last activated without a test of it as it stood then';
comment on column salesai.prompt_template.replaced_version is 'What was active before it, for the same model: where salesai.prompt_template_rollback goes; NULL: nothing of its own';

create table salesai.prompt_template_case (
    id bigint generated always as identity primary key,
    task text not null check (task = any (salesai.prompt_tasks())),
    model text,
    documents text[] not null,
    arguments jsonb not null default '{}',
    expectation text not null check (expectation in ('equals', 'contains', 'cites', 'abstains')),
    expected jsonb,
    note text,
    check (cardinality(documents) between 1 and 50 and array_position(documents, null) is null),
    check (case task when 'insight' then coalesce(arguments ->> 'question', '') ~ '\S'
           else cardinality(documents) = 1 and expectation in ('equals', 'contains') end),
    check ((expectation = 'abstains') = (expected is null)),
    -- What every answer has shows nothing.
    check (expectation not in ('contains', 'cites') or expected not in ('[]', '""'))
);
comment on table salesai.prompt_template_case is
    'Test sets of prompt templates; administrators write them. A case without a model is for all templates of the task';
comment on column salesai.prompt_template_case.documents is 'What is asked about: one document, or for insight up to 50, which are its evidence, numbered from 1';
comment on column salesai.prompt_template_case.arguments is 'Of the operator, as salesai.apply_operator has them; for insight {question}';
comment on column salesai.prompt_template_case.expectation is
    'equals: the value is expected, NULL being null; contains: the text has expected, or each text of an array, in any case; for insight also cites: expected is the number of a document that is cited, or an array of them; abstains: there is no answer';

create table salesai.prompt_template_run (
    id bigint generated always as identity primary key,
    task text not null,
    version integer not null,
    compared_version integer not null,
    model text not null,
    model_sha256 text,
    adapter text,
    adapter_generation bigint,
    cases_sha256 bytea not null,
    cases integer not null,
    passed_before integer not null,
    passed integer not null,
    changed integer not null,
    results jsonb not null,
    run_by text not null,
    run_at timestamptz not null default now(),
    foreign key (task, version) references salesai.prompt_template on delete cascade
);
create index prompt_template_run_template_index on salesai.prompt_template_run (task, version);
comment on table salesai.prompt_template_run is 'Runs of salesai.prompt_template_test, which salesai.prompt_template_activate asks for; only administrators see them';
comment on column salesai.prompt_template_run.compared_version is 'What was active then';
comment on column salesai.prompt_template_run.cases_sha256 is 'Of the test set as it was';

-- Documents of customers, and what models said of them.
alter table salesai.prompt_template_case enable row level security, force row level security;
create policy admin on salesai.prompt_template_case to salesai_admin using (true);
alter table salesai.prompt_template_run enable row level security, force row level security;
create policy admin on salesai.prompt_template_run to salesai_admin using (true);

create type salesai.prompt_template_result as (
    case_id bigint, expectation text, expected jsonb, before jsonb, after jsonb, passed_before boolean, passed boolean,
    differs boolean, error text);
comment on type salesai.prompt_template_result is 'What became of a test case: before, by the template that is active, after, by the one that is tested';

create type salesai.prompt_template_activation as (
    task text, version integer, replaced_version integer, cases integer, passed_before integer, passed integer, changed integer,
    is_forced boolean);
comment on type salesai.prompt_template_activation is
    'What an activation changed: the version that is asked by and the one that was, cases of the test set, those that passed by the version that was active and by the new one, and those with another answer; NULL where no test stands for it';

create function salesai.active_prompt_version(task text, model text) returns integer
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select t.version from salesai.prompt_template t
                     where t.task = $1 and t.state = 'active' and (t.model = $2 or t.model is null)
                     order by t.model nulls last limit 1), 1)
$$;
comment on function salesai.active_prompt_version(text, text) is
    'The version of a task''s prompt template that a model is asked by: the active one for it, else the active one for any model, else the built-in one, 1';

create view salesai.prompt_templates with (security_invoker = true) as
select t.task, t.version, t.model, t.state, t.text, t.note, t.created_by, t.created_at, t.activated_by, t.activated_at, t.is_forced
from salesai.prompt_template t
union all
select b.task, 1, null, case salesai.active_prompt_version(b.task, null) when 1 then 'active' else 'retired' end,
    salesai.built_in_prompt(b.task), 'built in', null, null, null, null, null
from unnest(salesai.prompt_tasks()) b (task);
comment on view salesai.prompt_templates is 'All prompt templates, with the built-in ones as version 1';

create function salesai.prompt_template_create(task text, text text, model text default null, note text default null) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    created integer;
begin
    perform salesai.check_prompt_template(task, text);
    lock table salesai.prompt_template_case in share row exclusive mode;
    insert into salesai.prompt_template (task, version, model, text, note, created_by)
    select prompt_template_create.task, coalesce(max(t.version), 1) + 1, prompt_template_create.model, prompt_template_create.text,
        prompt_template_create.note, salesai.current_role_name()
    from salesai.prompt_template t where t.task = prompt_template_create.task
    returning version into created;
    return created;
end
$$;
comment on function salesai.prompt_template_create(text, text, text, text) is
    'Stores a draft of a prompt template and returns its version of the task. text: the instructions, with a placeholder for what the caller names ({labels} of classify, {statement} of is_true, {fields} of extract, {instruction} of agg; {{ and }} for braces). model: NULL for any. Nothing changes before salesai.prompt_template_activate';

create function salesai.known_prompt_template(task text, version integer) returns salesai.prompt_template
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    known salesai.prompt_template;
begin
    select * into known from salesai.prompt_template t
    where t.task = known_prompt_template.task and t.version = known_prompt_template.version;
    if known.task is null then
        raise exception 'prompt template % of "%" does not exist', version, task using errcode = 'P0002',
            detail = case when version = 1 then 'Version 1 is built in.' end,
            hint = 'salesai.prompt_templates lists them; salesai.prompt_template_rollback goes back as far as version 1.';
    end if;
    return known;
end
$$;
comment on function salesai.known_prompt_template(text, integer) is 'A prompt template that somebody made; fails when there is none';

create function salesai.prompt_cases(task text, model text) returns setof salesai.prompt_template_case
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select c.* from salesai.prompt_template_case c where c.task = $1 and (c.model is null or c.model = $2) $$;
comment on function salesai.prompt_cases(text, text) is 'The test set of a task''s prompt templates for a model, or for any';

create function salesai.prompt_cases_digest(task text, model text) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(jsonb_agg(jsonb_build_array(c.id, c.documents, c.arguments, c.expectation, c.expected) order by c.id)::text, 'UTF8'))
    from salesai.prompt_cases(task, model) c
$$;
comment on function salesai.prompt_cases_digest(text, text) is 'SHA-256 of a test set; NULL when it is empty';

create function salesai.case_evidence(documents text[]) returns jsonb
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(jsonb_build_object('number', d.number, 'interaction_id', d.number, 'title', 'document', 'occurred_on', '',
        'segments', jsonb_build_array(jsonb_build_object('segment_id', d.number, 'start_char', 0,
            'end_char', length(d.document), 'content', d.document))) order by d.number)
    from unnest(documents) with ordinality d (document, number)
$$;
comment on function salesai.case_evidence(text[]) is 'Documents of a test case as evidence of salesai.answer_question, each with its number as its interaction';

create function salesai.prompt_answers(task text, version integer, case_model text, options jsonb)
returns table (case_id bigint, answer jsonb, cites integer[], error text)
language plpgsql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    by_version constant jsonb := prompt_answers.options || jsonb_build_object('prompt_version', prompt_answers.version);
begin
    if prompt_answers.task = 'insight' then
        return query
        with answered as materialized (
            select c.id, salesai.answer_question(c.arguments ->> 'question', salesai.case_evidence(c.documents),
                by_version || '{"method": "generated", "max_tokens": 64, "seed": 0}') as given
            from salesai.prompt_cases(prompt_answers.task, case_model) c)
        select a.id, to_jsonb(a.given ->> 'answer'),
            array(select distinct (i ->> 'interaction_id')::integer
                  from jsonb_array_elements(coalesce(nullif(a.given -> 'citations', 'null'), '[]')) i order by 1), null::text
        from answered a;
    else
        return query
        select g.ids[a.number], a.value, null::integer[], a.error
        from (select array_agg(c.id order by c.id) as ids, array_agg(c.documents[1] order by c.id) as documents, c.arguments
              from salesai.prompt_cases(prompt_answers.task, case_model) c group by c.arguments) g
        cross join lateral salesai.apply_operator(prompt_answers.task, g.documents, g.arguments, by_version) a;
    end if;
end
$$;
comment on function salesai.prompt_answers(text, integer, text, jsonb) is
    'What a version of a prompt template makes of each case of a test set; documents with the same arguments are asked about together, the likeliest text is taken';

create function salesai.meets_expectation(expectation text, expected jsonb, answer jsonb, cites integer[]) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(case expectation
        when 'equals' then coalesce(answer, 'null') = expected
        when 'contains' then not exists (
            select from jsonb_array_elements_text(case jsonb_typeof(expected) when 'array' then expected else jsonb_build_array(expected) end) part
            where strpos(lower(coalesce(answer #>> '{}', '')), lower(part)) = 0)
        when 'cites' then to_jsonb(cites) @> expected
        when 'abstains' then answer is null end, false)
$$;
comment on function salesai.meets_expectation(text, jsonb, jsonb, integer[]) is 'Whether an answer is what a test case expects';

create function salesai.compare_prompts(
    task text, before_version integer, after_version integer, case_model text, options jsonb) returns setof salesai.prompt_template_result
language sql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
    with before as materialized (
        select a.case_id, a.answer, a.cites, a.error from salesai.prompt_answers(task, before_version, case_model, options) a),
    after as materialized (
        select a.case_id, a.answer, a.cites, a.error from salesai.prompt_answers(task, after_version, case_model, options) a)
    select c.id, c.expectation, c.expected, b.answer, a.answer,
        b.error is null and salesai.meets_expectation(c.expectation, c.expected, b.answer, b.cites),
        a.error is null and salesai.meets_expectation(c.expectation, c.expected, a.answer, a.cites),
        (b.answer, b.cites, b.error) is distinct from (a.answer, a.cites, a.error), a.error
    from salesai.prompt_cases(task, case_model) c
    join before b on b.case_id = c.id
    join after a on a.case_id = c.id
    order by c.id
$$;
comment on function salesai.compare_prompts(text, integer, integer, text, jsonb) is 'A test set by two versions of a prompt template';

create function salesai.served_model(model text) returns table (name text, sha256 text)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select m ->> 'name', nullif(m ->> 'sha256', '')
    from salesai.served('models') m
    where m ->> 'kind' = 'language' and case when $1 is null then (m ->> 'is_default')::boolean else m ->> 'name' = $1 end
$$;
comment on function salesai.served_model(text) is 'A language model that the sidecar serves now, NULL for the default one; no row when it does not';

create function salesai.prompt_template_test(task text, version integer, adapter text default null, timeout_ms integer default null)
returns setof salesai.prompt_template_result
language plpgsql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    template constant salesai.prompt_template := salesai.known_prompt_template(task, version);
    test_set constant bytea := salesai.prompt_cases_digest(template.task, template.model);
    context record;
    served record;
    compared integer;
    results salesai.prompt_template_result[];
begin
    if test_set is null then
        raise exception 'prompt template % of "%" has no test set', version, task using errcode = '55000',
            hint = 'Insert cases into salesai.prompt_template_case.';
    end if;
    select * into context from salesai.generation_context(template.model, adapter);
    select * into served from salesai.served_model(coalesce(context.adapter_model, template.model));
    if served.name is null then
        raise exception 'the inference sidecar does not serve the model of this template' using errcode = '42704',
            hint = 'salesai.sidecar_status lists what it serves; salesai.doctor() says whether it can be reached.';
    end if;
    compared := salesai.active_prompt_version(template.task, served.name);
    select array_agg(r) into results
    from salesai.compare_prompts(template.task, compared, template.version, template.model,
        jsonb_strip_nulls(jsonb_build_object('model', template.model, 'adapter', adapter, 'timeout_ms', timeout_ms))) r;
    insert into salesai.prompt_template_run (task, version, compared_version, model, model_sha256, adapter, adapter_generation,
        cases_sha256, cases, passed_before, passed, changed, results, run_by)
    select template.task, template.version, compared, served.name, served.sha256, prompt_template_test.adapter,
        context.adapter_generation, test_set, count(*), count(*) filter (where r.passed_before), count(*) filter (where r.passed),
        count(*) filter (where r.differs), jsonb_agg(to_jsonb(r)), salesai.current_role_name()
    from unnest(results) r;
    return query select r.* from unnest(results) r;
end
$$;
comment on function salesai.prompt_template_test(text, integer, text, integer) is
    'Answers each case of a prompt template''s test set by it and by the version that is active, with its model (the default one where it is for any) and, if one is named, an adapter: both answers, whether they are what is expected, and whether they differ. The run is kept in salesai.prompt_template_run. timeout_ms: for each call of the model';

create function salesai.prompt_template_activate(task text, version integer, force boolean default false)
returns salesai.prompt_template_activation
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    template salesai.prompt_template := salesai.known_prompt_template(task, version);
    served record;
    test salesai.prompt_template_run;
    before integer;
    replaced integer;
begin
    select * into served from salesai.served_model(template.model);
    -- From here on there is one who activates, and the test set stays as it is.
    lock table salesai.prompt_template_case in share row exclusive mode;
    template := salesai.known_prompt_template(task, version);
    if template.state = 'active' then
        raise exception 'prompt template % of "%" is active already', version, task using errcode = '55000';
    end if;
    before := salesai.active_prompt_version(template.task, coalesce(served.name, template.model));
    select * into test from salesai.prompt_template_run r
    where r.task = template.task and r.version = template.version
      and r.cases_sha256 = salesai.prompt_cases_digest(template.task, template.model)
      and r.model = served.name and r.model_sha256 is not distinct from served.sha256
      and r.compared_version = before
    order by r.id desc limit 1;
    if test.id is null and not coalesce(force, false) then
        raise exception 'prompt template % of "%" was not tested as it stands', version, task using errcode = '55000',
            detail = 'No run has its present test set and model, and compares it with the version that is active now.',
            hint = format('Look at select * from salesai.prompt_template_test(%L, %s), or pass force => true.', task, version);
    end if;
    update salesai.prompt_template t set state = 'retired'
    where t.task = template.task and t.model is not distinct from template.model and t.state = 'active'
    returning t.version into replaced;
    update salesai.prompt_template t
    set state = 'active', activated_by = salesai.current_role_name(), activated_at = now(), is_forced = test.id is null,
        replaced_version = replaced
    where t.task = template.task and t.version = template.version;
    return (template.task, template.version, before, test.cases, test.passed_before, test.passed,
        test.changed, test.id is null);
end
$$;
comment on function salesai.prompt_template_activate(text, integer, boolean) is
    'Makes a version of a prompt template the one that its model (any, where it names none) is asked by, from the next statement of every session on; says what the last test of it had shown. Refuses a version that was not tested with its present test set and model against what is active now, unless force is true';

create function salesai.prompt_template_rollback(task text, model text default null) returns salesai.prompt_template_activation
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    template salesai.prompt_template;
    result salesai.prompt_template_activation;
begin
    lock table salesai.prompt_template_case in share row exclusive mode;
    select * into template from salesai.prompt_template t
    where t.task = prompt_template_rollback.task and t.model is not distinct from prompt_template_rollback.model and t.state = 'active';
    if template.task is null then
        raise exception 'there is nothing to roll back' using errcode = '55000',
            detail = format('No prompt template of "%s" that somebody made is active for %s.', task, coalesce('model "' || model || '"', 'any model')),
            hint = 'salesai.prompt_templates says what is active.';
    end if;
    -- What it replaced is forgotten, so that one more step goes further back.
    update salesai.prompt_template t set state = 'retired', replaced_version = null
    where t.task = template.task and t.version = template.version;
    update salesai.prompt_template t set state = 'active', activated_by = salesai.current_role_name(), activated_at = now()
    where t.task = template.task and t.version = template.replaced_version;
    result.task := template.task;
    result.version := salesai.active_prompt_version(template.task, template.model);
    result.replaced_version := template.version;
    result.is_forced := false;
    return result;
end
$$;
comment on function salesai.prompt_template_rollback(text, text) is
    'Goes back to the version that the active one replaced, for the same model (NULL: for any); where that was none, to the one for any model or the built-in one. Needs no test: that version was active before';

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

-- Triggers need no right of who fires them, and nobody else's tables may have this one: it runs with the owner's rights.
revoke execute on function salesai.count_jobs(), salesai.note_new_chunks(), salesai.note_changed_embeddings(), salesai.forget_results(),
    salesai.match_participants()
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.create_embedding_codes(bigint), salesai.empty_lexical_index()
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- What the worker does to embedding sets, and what only an administrator decides.
revoke execute on function
    salesai.create_embedding_set(text, text, integer, text, boolean), salesai.switch_embedding_set(bigint),
    salesai.complete_embedding_set(bigint), salesai.build_embedding_index(bigint), salesai.enqueue_missing_embeddings(bigint),
    salesai.lock_embedding_sets(boolean)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function
    salesai.reembed(text, text, boolean), salesai.activate_embedding_set(bigint, boolean), salesai.drop_embedding_set(bigint), salesai.use_embedding_codes(bigint),
    salesai.missing_embeddings(bigint), salesai.locked_embedding_set(bigint), salesai.pause(text), salesai.resume(text), salesai.recount_jobs()
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.merge_lexical_delta(integer), salesai.merge_lexical_segments(), salesai.merge_embedding_delta(integer),
    salesai.code_embeddings(bigint), salesai.waiting_embeddings(bigint, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.purge_results(interval, bigint), salesai.purge_requests(interval)
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.rebuild_lexical_index(real, real)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.backfill(text, timestamptz, timestamptz, boolean)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.process(integer, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.apply_redaction(text, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke all on salesai.lexical_index, salesai.lexical_segment, salesai.posting_list, salesai.lexical_delta, salesai.lexical_language,
    salesai.result_cache from public;
grant select on salesai.lexical_language
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- Which words there are, and where, is nobody else's to read.
grant select, insert, update, delete on salesai.lexical_segment, salesai.posting_list, salesai.lexical_delta to salesai_worker;
grant select, update on salesai.lexical_index to salesai_worker;
grant select, update on salesai.embedding_code_index to salesai_worker;
grant select, update, delete on salesai.embedding_delta to salesai_worker;
grant select, insert, delete on salesai.result_cache to salesai_worker;
grant select on salesai.result_epoch to salesai_worker;
-- What models are told to do is an administrator's to say; everybody sees it.
revoke execute on function
    salesai.prompt_template_create(text, text, text, text), salesai.prompt_template_test(text, integer, text, integer),
    salesai.prompt_template_activate(text, integer, boolean), salesai.prompt_template_rollback(text, text),
    salesai.prompt_answers(text, integer, text, jsonb), salesai.compare_prompts(text, integer, integer, text, jsonb)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke all on salesai.prompt_template, salesai.prompt_template_case, salesai.prompt_template_run, salesai.prompt_templates from public;
grant select on salesai.prompt_template, salesai.prompt_templates
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert (task, version, model, text, note, created_by), update (state, activated_by, activated_at, is_forced, replaced_version)
    on salesai.prompt_template to salesai_admin;
grant select, insert, update, delete on salesai.prompt_template_case to salesai_admin;
grant select, insert on salesai.prompt_template_run to salesai_admin;
revoke all on salesai.insight_request from public;
grant select on salesai.insight_request
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant update, delete on salesai.insight_request to salesai_worker;
revoke all on salesai.column_task, salesai.column_task_version, salesai.column_value, salesai.column_tasks, salesai.column_task_errors from public;
-- Whose they are, is for row-level security to say.
grant select, insert, update, delete on salesai.column_task, salesai.column_task_version, salesai.column_value
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant select on salesai.column_tasks, salesai.column_task_errors
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke all on salesai.interaction_summary from public;
grant select on salesai.interaction_summary
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert, update on salesai.interaction_summary to salesai_admin, salesai_worker;
revoke all on salesai.inbox, salesai.redaction_policy, salesai.job_count, salesai.queue_pause, salesai.source_status, salesai.embedding_sets, salesai.product,
    salesai.index_progress, salesai.backfill, salesai.backfills, salesai.stage,
    salesai.opportunity_stages from public;
grant select on salesai.redaction_policy, salesai.job_count, salesai.queue_pause, salesai.source_status, salesai.embedding_sets, salesai.index_progress, salesai.stage,
    salesai.opportunity_stages
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert, update, delete on salesai.redaction_policy, salesai.queue_pause to salesai_admin;
grant select on salesai.backfill, salesai.backfills to salesai_admin;
grant select (id, source, external_id, name, code, source_updated_at, updated_at, deleted_at, name_key) on salesai.product
    to salesai_manager, salesai_rep, salesai_analyst, salesai_worker;
grant select, insert, update on salesai.product to salesai_admin, salesai_gateway;
grant insert, update on salesai.stage to salesai_admin, salesai_gateway;
grant insert on salesai.inbox to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;
grant select, update on salesai.raw_payload to salesai_worker;
grant select on salesai.data_key to salesai_worker;
grant insert on salesai.segment to salesai_worker;
grant insert, update on salesai.participant to salesai_worker;

select pg_catalog.pg_extension_config_dump('salesai.embedding_code_index'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.embedding_delta'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.redaction_policy'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.redaction_policy_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.stage'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.stage_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.backfill'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.backfill_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.product'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.product_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.job_count'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.queue_pause'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.lexical_index'::regclass, 'where heading_boost <> 1 or speaker_boost <> 1');
select pg_catalog.pg_extension_config_dump('salesai.lexical_segment'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.posting_list'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.lexical_delta'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.lexical_language'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.lexical_segment_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.result_cache'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.result_epoch'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.insight_request'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.insight_request_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.prompt_template'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.prompt_template_case'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.prompt_template_case_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.prompt_template_run'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.prompt_template_run_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.column_task'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.column_task_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.column_task_version'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.column_value'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.column_value_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.interaction_summary'::regclass, '');
