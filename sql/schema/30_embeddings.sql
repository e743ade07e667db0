-- Index units and the registry of embedding sets. The vectors of a set live in a table of their own,
-- salesai.embedding_<set id>, made at run time by salesai.create_embedding_set.

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
    kind text not null,
    occurred_at timestamptz not null,
    account_id bigint,
    opportunity_id bigint,
    owner_rep_id bigint,
    team_id bigint,
    language text,
    lexemes tsvector generated always as (
        pg_catalog.setweight(pg_catalog.to_tsvector(salesai.text_configuration(language), heading), 'B')
        || pg_catalog.setweight(pg_catalog.to_tsvector(
            salesai.text_configuration(language), coalesce(salesai.speaker_labels(kind, content), '')), 'C')
        || pg_catalog.setweight(pg_catalog.to_tsvector(salesai.text_configuration(language), content), 'A')) stored,
    -- Chunks that an edit moves keep their rows.
    unique (interaction_id, position) deferrable
);
-- All that filters and row-level security mostly ask for is in these, because the rows themselves are wide: search asks
-- for hundreds by their ids, and for thousands of an account, a rep or a time.
create index chunk_admission_index on salesai.chunk (id)
    include (interaction_id, position, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id, language);
create index chunk_account_index on salesai.chunk (account_id, occurred_at) include (id, kind, opportunity_id, owner_rep_id, team_id, language);
create index chunk_opportunity_index on salesai.chunk (opportunity_id);
create index chunk_owner_index on salesai.chunk (owner_rep_id) include (id, kind, occurred_at, account_id, opportunity_id, team_id, language);
create index chunk_team_index on salesai.chunk (team_id) include (id, kind, occurred_at, account_id, opportunity_id, owner_rep_id, language);
create index chunk_occurred_index on salesai.chunk (occurred_at) include (id, kind, account_id, opportunity_id, owner_rep_id, team_id, language);
comment on column salesai.chunk.content_hash is 'SHA-256 of what is embedded: heading, line feed, content';
comment on column salesai.chunk.language is 'ISO 639-1 code of the interaction''s language; NULL when it is not known';
comment on column salesai.chunk.lexemes is 'Stems, for the lexical index: of the content with weight A, of the heading B, of speakers'' names C';
comment on table salesai.chunk is
    'Index units: consecutive segments that fit the embedding model, of the present version only. heading says what and with whom; it is embedded and indexed with the content';

create function salesai.default_template() returns text
language sql immutable parallel safe
as $$ select '{heading} | {date}' || e'\n' || '{content}' $$;
comment on function salesai.default_template() is 'Template of embedding sets that are made without one';

create table salesai.embedding_set (
    id bigint generated always as identity primary key,
    model text not null,
    model_sha256 text not null,
    dimensions integer not null check (dimensions between 1 and 4000),
    template text not null default salesai.default_template(),
    state text not null default 'building' check (state in ('building', 'ready', 'active', 'retired')),
    created_at timestamptz not null default now(),
    element text not null default 'vector' check (element in ('vector', 'halfvec')),
    hnsw_m integer not null default 16,
    hnsw_ef_construction integer not null default 64,
    index_method text not null default 'hnsw' check (index_method in ('codes', 'hnsw')),
    switch_when_complete boolean not null default false,
    activated_at timestamptz,
    filling_since timestamptz not null default now(),
    filled_before bigint not null default 0,
    -- What pgvector can index.
    check (element = 'halfvec' or dimensions <= 2000),
    check (hnsw_ef_construction >= 2 * hnsw_m)
);
create unique index embedding_set_active_index on salesai.embedding_set ((true)) where state = 'active';
comment on table salesai.embedding_set is
    'A version of all embeddings: model, weights, dimensions, template. building: is being filled; ready: complete, waits for salesai.activate_embedding_set; active: the one that search uses; retired: was active and can be again. Its vectors are in salesai.embedding_<id>';
comment on column salesai.embedding_set.template is
    'What is embedded of a chunk: {heading} (kind, account, opportunity, subject, section), {date}, {kind} and {content} are put in';
comment on column salesai.embedding_set.filled_before is 'Embeddings that there were at filling_since';
comment on column salesai.embedding_set.element is 'vector: 4 bytes for each dimension; halfvec: 2';
comment on column salesai.embedding_set.index_method is
    'codes: all vectors in two bits a dimension are scanned, and the best compared as they are; hnsw: an index of pgvector is followed';
