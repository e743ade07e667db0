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
