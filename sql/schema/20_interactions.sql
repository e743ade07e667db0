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
    redacted_kinds text[],
    -- A column, because -> is not leakproof, so that row-level security would keep an index on it from being used.
    message_id text generated always as (properties ->> 'message_id') stored,
    unique (source, external_id)
);
create index interaction_account_index on salesai.interaction (account_id, occurred_at);
create index interaction_opportunity_index on salesai.interaction (opportunity_id, occurred_at);
create index interaction_owner_index on salesai.interaction (owner_rep_id);
create index interaction_thread_index on salesai.interaction (thread_key) where thread_key is not null;
create index interaction_processed_index on salesai.interaction (processed_at);
create index interaction_message_index on salesai.interaction (message_id) where message_id is not null;
comment on table salesai.interaction is
    'One call, email, meeting, note, document or CRM activity. version counts changed payloads of the same (source, external_id)';
comment on column salesai.interaction.content_hash is 'SHA-256 of the payload of the present version';
comment on column salesai.interaction.redacted_kinds is 'Kinds of personal data that were looked for in the present version; NULL before 0.3.0';
comment on column salesai.interaction.language is 'ISO 639 code, found in the text; NULL when it is too short to tell';
comment on column salesai.interaction.message_id is 'E-mails: their Message-ID';
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
    text_ciphertext bytea,
    primary key (interaction_id, version)
);
alter table salesai.raw_payload alter column ciphertext set storage external, alter column text_ciphertext set storage external;
comment on column salesai.raw_payload.text_ciphertext is
    'Documents: the text that was read from it, as Markdown, deflated and encrypted; segment offsets count its characters. NULL until it is read';
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
    redactions integer[],
    sealed bytea,
    part text not null default 'body' check (part in ('body', 'quoted', 'signature')),
    unique (interaction_id, version, position)
);
alter table salesai.segment alter column sealed set storage external;
comment on table salesai.segment is
    'Utterances (one caption cue, line or paragraph). start_char and end_char are Unicode character offsets into the original text, end excluded; turn numbers runs of one speaker. Segments of old versions stay, so that old citations keep their place';
comment on column salesai.segment.part is 'E-mails: body is new text, which is indexed; quoted repeats an earlier mail; signature says who wrote it';
comment on column salesai.segment.content is 'What was said, personal data replaced as salesai.redaction_policy has it: what search and models read';
comment on column salesai.segment.redactions is
    'Where content differs from what was said, in characters: start and end there, start and end in content, for each place; NULL where it does not';
comment on column salesai.segment.sealed is 'What was said, where content differs: deflated, then encrypted under the data key (salesai.original_segment)';
