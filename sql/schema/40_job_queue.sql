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
