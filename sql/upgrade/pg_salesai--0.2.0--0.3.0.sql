\echo Use "alter extension pg_salesai update to '0.3.0'" to load this file. \quit

-- Why: personal data is taken out of what search and models read, by policy, and documents are read. What was
-- stored before stays as it is until salesai.apply_redaction() is called.

alter table salesai.interaction add column redacted_kinds text[];
comment on column salesai.interaction.redacted_kinds is 'Kinds of personal data that were looked for in the present version; NULL before 0.3.0';

alter table salesai.raw_payload add column text_ciphertext bytea;
alter table salesai.raw_payload alter column text_ciphertext set storage external;
comment on column salesai.raw_payload.text_ciphertext is
    'Documents: the text that was read from it, as Markdown, deflated and encrypted; segment offsets count its characters. NULL until it is read';

alter table salesai.segment add column redactions integer[], add column sealed bytea;
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
        select r.name from salesai.rep r
        union all
        select c.name from salesai.contact c where c.account_id = $1
        union all
        select p.name from salesai.participant p where p.interaction_id = $2) known (name)
$$;
comment on function salesai.known_names(bigint, bigint) is
    'Names of reps, of the account''s contacts and of who took part: what the kind "name" means there';

create function salesai.redact_text(content text, kinds text[], names text[]) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'redact_text_wrapper';
comment on function salesai.redact_text(text, text[], text[]) is 'The text with personal data of these kinds replaced by [kind]';

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

create or replace function salesai.store_interaction(item jsonb, payload bytea) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    known salesai.interaction;
    account_id bigint := salesai.resolve_account(nullif(item ->> 'account', ''));
    opportunity_id bigint := salesai.resolve_opportunity(nullif(item ->> 'opportunity', ''));
    payload_hash bytea := sha256(payload);
    kinds text[] := salesai.redacted_kinds(item ->> 'source');
    given_subject text;
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
    -- It stands in every chunk.
    given_subject := salesai.redact_text(left(item ->> 'subject', 1000), kinds,
        salesai.known_names(account_id, null)
        || array(select p ->> 'name' from jsonb_array_elements(coalesce(item -> 'participants', '[]')) p where p ->> 'name' <> '')
        || array(select distinct s ->> 'speaker' from jsonb_array_elements(item -> 'segments') s where s ->> 'speaker' <> ''));

    -- The insert takes the row's lock even when it changes nothing, so two writers of one key take turns.
    insert into salesai.interaction as i (source, external_id, kind, account_id, opportunity_id, owner_rep_id,
        team_id, occurred_at, duration_ms, subject, thread_key, content_hash, properties, redacted_kinds)
    values (item ->> 'source', item ->> 'external_id', item ->> 'kind', account_id, opportunity_id,
        case when account_id is null then salesai.reader_rep_id() else owner_id end, owner_team_id,
        (item ->> 'occurred_at')::timestamptz, (item ->> 'duration_ms')::bigint,
        given_subject, item ->> 'thread_key', payload_hash,
        coalesce(item -> 'properties', '{}'), kinds)
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
            subject = coalesce(given_subject, i.subject), redacted_kinds = kinds,
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
        start_char, end_char, start_ms, end_ms, content, redactions, sealed)
    select known.id, known.version, r.position, (s.value ->> 'turn')::integer, p.id,
        (s.value ->> 'start_char')::integer, (s.value ->> 'end_char')::integer,
        (s.value ->> 'start_ms')::bigint, (s.value ->> 'end_ms')::bigint, r.content, r.redactions, r.sealed
    from jsonb_array_elements(item -> 'segments') with ordinality s (value, number)
    join salesai.redact_segments(item -> 'segments', kinds, salesai.known_names(account_id, known.id), data_key,
        known.id, known.version) r on r.position = s.number - 1
    left join salesai.participant p on p.interaction_id = known.id and p.name = s.value ->> 'speaker';
    perform salesai.enqueue(known.id, known.version);
    return known.id;
end
$$;
comment on function salesai.store_interaction(jsonb, bytea) is
    'Stores an interaction with its sealed payload, participants and segments, and queues it. Unchanged payload: returns the known id';

create or replace function salesai.ingest_call(
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
            'media_type', case parsed ->> 'format' when 'vtt' then 'text/vtt' when 'srt' then 'application/x-subrip'
                when 'gong' then 'application/json' else 'text/plain' end,
            'segments', parsed -> 'segments'),
        convert_to(transcript, 'UTF8'));
end
$$;
comment on function salesai.ingest_call(text, text, text, text, text, text, timestamptz, jsonb, jsonb, text) is
    'Stores a call transcript (WebVTT of Zoom and Teams, SRT, Gong''s JSON, plain "Speaker: text"; format auto, vtt, srt, gong or plain) and queues it; returns the interaction id. participants: [{name, email, side, role}]';

create function salesai.ingest_document(
    source text, external_id text, content bytea, filename text, mime text default null, account text default null,
    opportunity text default null, occurred_at timestamptz default now(), metadata jsonb default '{}', subject text default null)
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
            'media_type', coalesce(mime, ''), 'segments', '[]'::jsonb),
        content);
end
$$;
comment on function salesai.ingest_document(text, text, bytea, text, text, text, text, timestamptz, jsonb, text) is
    'Stores a document (PDF, DOCX, PPTX, XLSX, XLS, ODS, ODT, EPUB, RTF, HTML, CSV, Markdown, text; at most 64 MiB) and queues it; returns the interaction id. Its text is read by the worker; one that has none fails with the reason in salesai.pipeline_errors';

create function salesai.email_attachments(message bytea) returns table (number integer, filename text, mime text, content bytea)
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'email_attachments_wrapper';
comment on function salesai.email_attachments(bytea) is 'Attached documents of an e-mail, by the endings of their names';

create or replace function salesai.ingest_email(
    source text, external_id text, message bytea, account text default null, opportunity text default null,
    metadata jsonb default '{}')
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parsed jsonb := salesai.parse_email(coalesce(message, ''));
    correspondents text[];
    sent_at timestamptz := coalesce(to_timestamp((parsed ->> 'sent_at_ms')::double precision / 1000), now());
    email_id bigint;
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
    email_id := salesai.store_interaction(
        jsonb_build_object(
            'kind', 'email', 'source', source, 'external_id', external_id, 'account', account,
            'opportunity', opportunity, 'occurred_at', sent_at,
            'subject', parsed -> 'subject', 'thread_key', parsed -> 'thread_key',
            'properties', metadata || jsonb_build_object('message_id', parsed -> 'message_id'),
            'participants', parsed -> 'participants', 'media_type', parsed -> 'media_type',
            'segments', parsed -> 'segments'),
        message);
    perform salesai.ingest_document(source, format('%s/%s', external_id, a.number), a.content, a.filename, nullif(a.mime, ''),
        account, opportunity, sent_at, jsonb_build_object('email_id', email_id))
    from salesai.email_attachments(message) a;
    return email_id;
end
$$;
comment on function salesai.ingest_email(text, text, bytea, text, text, jsonb) is
    'Stores an RFC 5322 message, or one of Outlook (.msg), and queues it; returns the interaction id. Without account and opportunity the account comes from the correspondents'' domains. Attached documents become interactions of their own, external_id/1 and so on, with the e-mail''s id in properties. Segment offsets count characters of the decoded body';

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

create function salesai.parse_markdown(content text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'parse_markdown_wrapper';
comment on function salesai.parse_markdown(text) is 'Segments of a document: headings, paragraphs, lists and tables';

create function salesai.unread_document(interaction_id bigint, version integer)
returns table (file_name text, media_type text, content bytea)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select i.properties ->> 'filename', r.media_type,
        salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.interaction i
    join salesai.raw_payload r on r.interaction_id = i.id and r.version = $2
    join salesai.data_key d on d.interaction_id = i.id
    where i.id = $1 and i.kind = 'document' and r.text_ciphertext is null
      -- Before 0.3.0 a document came with its segments.
      and not exists (select from salesai.segment s where s.interaction_id = i.id and s.version = $2)
$$;
comment on function salesai.unread_document(bigint, integer) is 'The document of a job whose text is not read yet';

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

create or replace function salesai.finish_job(
    job_id bigint, lease_token uuid, chunks jsonb, embeddings real[],
    model text, model_sha256 text, dimensions integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    done salesai.job;
    set_id bigint;
begin
    perform salesai.lock_interaction(job_id);
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

-- Returns false when the lease was lost: then nothing is written.
create function salesai.store_document(job_id bigint, lease_token uuid, media_type text, title text, markdown text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
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
    names := salesai.known_names(item.account_id, item.id);
    update salesai.raw_payload r
    set text_ciphertext = salesai.seal_text(markdown, item.wrapped_key, item.id, item.version),
        media_type = store_document.media_type
    where r.interaction_id = item.id and r.version = item.version;
    update salesai.interaction i
    set redacted_kinds = item.kinds,
        subject = case when title <> '' and i.subject = i.properties ->> 'filename'
            then salesai.redact_text(left(title, 300), item.kinds, names) else i.subject end
    where i.id = item.id;
    with parsed as materialized (select salesai.parse_markdown(markdown) as segments),
    redacted as materialized (
        select r.*
        from parsed p, lateral salesai.redact_segments(p.segments, item.kinds, names, item.wrapped_key, item.id, item.version) r)
    insert into salesai.segment (interaction_id, version, position, turn, start_char, end_char, content, redactions, sealed)
    select item.id, item.version, r.position, (s.value ->> 'turn')::integer, (s.value ->> 'start_char')::integer,
        (s.value ->> 'end_char')::integer, r.content, r.redactions, r.sealed
    from parsed p
    cross join jsonb_array_elements(p.segments) with ordinality s (value, number)
    join redacted r on r.position = s.number - 1;
    return true;
end
$$;
comment on function salesai.store_document(bigint, uuid, text, text, text) is
    'Writes the text of a leased job''s document and its segments, all or nothing; false when the lease was lost';

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

revoke execute on function salesai.apply_redaction(text, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke all on salesai.redaction_policy from public;
grant select on salesai.redaction_policy
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert, update, delete on salesai.redaction_policy to salesai_admin;
grant select, update on salesai.raw_payload to salesai_worker;
grant select on salesai.data_key to salesai_worker;
grant insert on salesai.segment to salesai_worker;

select pg_catalog.pg_extension_config_dump('salesai.redaction_policy'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.redaction_policy_id_seq'::regclass, '');
