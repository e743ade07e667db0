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
    -- Chunks that it was made from, in their order, and the digest of what they said.
    evidence bigint[],
    evidence_sha256 bytea,
    options jsonb,
    -- The first answer of the conversation that it follows.
    conversation bigint,
    -- Of the prompt template that the model was asked by.
    prompt_version integer,
    check ((method = 'abstained') = (answer is null))
);
create index insight_conversation_idx on salesai.insight (conversation);
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
