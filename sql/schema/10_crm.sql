-- CRM objects. Each carries its origin (source, external_id), the source's own fields in properties,
-- and, where rights depend on it, the owning rep and team. What the source deleted stays as a row with deleted_at: calls
-- and mails refer to it, and a late copy of an older state must not bring it back.

create table salesai.team (
    id bigint generated always as identity primary key,
    source text not null,
    external_id text not null,
    name text not null,
    properties jsonb not null default '{}',
    source_updated_at timestamptz,
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
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
    deleted_at timestamptz,
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

-- name_key: `lower` is not leakproof, so that row-level security would keep an index on it from being used.
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
    deleted_at timestamptz,
    name_key text generated always as (pg_catalog.lower(name)) stored,
    unique (source, external_id)
);
create index account_name_index on salesai.account (name_key);
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
    deleted_at timestamptz,
    name_key text generated always as (pg_catalog.lower(name)) stored,
    unique (source, external_id)
);
create index contact_name_index on salesai.contact (name_key);
create index contact_account_index on salesai.contact (account_id);
create index contact_email_index on salesai.contact (lower(email));
comment on table salesai.contact is 'People at customers';

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
    deleted_at timestamptz,
    name_key text generated always as (pg_catalog.lower(name)) stored,
    unique (source, external_id)
);
create index opportunity_name_index on salesai.opportunity (name_key);
create index opportunity_account_index on salesai.opportunity (account_id);
comment on table salesai.opportunity is 'Deals; stage, amount and close date as the CRM last said';

create table salesai.opportunity_stage_history (
    opportunity_id bigint not null references salesai.opportunity on delete cascade,
    entered_at timestamptz not null,
    stage text not null,
    primary key (opportunity_id, entered_at, stage)
);
comment on table salesai.opportunity_stage_history is
    'What a source said of a deal''s stage, and of when, by its own name or id; salesai.opportunity_stages makes stays of it';
