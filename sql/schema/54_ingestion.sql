-- Ingestion: each function checks what arrives, stores it sealed, queues it and returns; the worker reads it
-- (salesai.store_reading). The same (source, external_id) with the same payload changes nothing.

create function salesai.normalise_name(name text) returns text
language sql immutable strict parallel safe
as $$
    -- What programs put behind a name, then "Lund, Ana".
    select pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(pg_catalog.regexp_replace(
        name, '\s*[\[(].*[\])]\s*$|\s+[|\u2013\u2014-]\s[^0-9].*$', ''))), '\s+', ' ', 'g'), '^([^,]+), ([^,]+)$', '\2 \1')
$$;
comment on function salesai.normalise_name(text) is
    'A speaker name for matching: in lower case, the first name first, without what stands in brackets or behind a dash or bar';

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

-- The one place that writes an interaction. item: kind, source, external_id, account, opportunity,
-- occurred_at, duration_ms, subject, thread_key, properties, media_type, participants, lane.
create function salesai.store_interaction(item jsonb, payload bytea) returns bigint
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
