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
    -- Chunks that an edit moves keep their rows.
    unique (interaction_id, position) deferrable
);
create index chunk_lexemes_index on salesai.chunk using gin (lexemes);
create index chunk_account_index on salesai.chunk (account_id, occurred_at);
create index chunk_opportunity_index on salesai.chunk (opportunity_id);
comment on column salesai.chunk.content_hash is 'SHA-256 of what is embedded: heading, line feed, content';
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
    switch_when_complete boolean not null default false,
    activated_at timestamptz,
    -- What pgvector can index.
    check (element = 'halfvec' or dimensions <= 2000),
    check (hnsw_ef_construction >= 2 * hnsw_m)
);
create unique index embedding_set_active_index on salesai.embedding_set ((true)) where state = 'active';
comment on table salesai.embedding_set is
    'A version of all embeddings: model, weights, dimensions, template. building: is being filled; ready: complete, waits for salesai.activate_embedding_set; active: the one that search uses; retired: was active and can be again. Its vectors are in salesai.embedding_<id>';
comment on column salesai.embedding_set.template is
    'What is embedded of a chunk: {heading} (kind, account, opportunity, subject, section), {date}, {kind} and {content} are put in';
comment on column salesai.embedding_set.element is 'vector: 4 bytes for each dimension; halfvec: 2';
