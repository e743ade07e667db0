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
    add constraint job_check check ((kind = 'index') = (interaction_id is not null)),
    add constraint job_check1 check ((kind = 'index') = (embedding_set_id is null)),
    add constraint job_check2 check ((kind = 'embed') = (first_chunk_id is not null and last_chunk_id is not null));
update salesai.job j set source = i.source from salesai.interaction i where i.id = j.interaction_id;
drop index salesai.job_claim_index;
create index job_due_index on salesai.job (lane, priority, source, not_before, id) where state = 'pending';
create index job_running_index on salesai.job (lease_expires_at) where state = 'running';
create index job_oldest_index on salesai.job (source, created_at) where state <> 'failed';
create index job_embedding_set_index on salesai.job (embedding_set_id) where embedding_set_id is not null;
comment on table salesai.job is
    'Work that waits for a model. index: an interaction''s chunks and embeddings; embed: a range of chunks for an embedding set that is built; build_index: that set''s index. A finished job is deleted; a failed one stays and can be retried';
comment on column salesai.job.source is 'The interaction''s source; sources take turns. Empty for work on embedding sets';
comment on column salesai.job.losses is 'How often its holder died or lost its lease; a job that kills its holders fails in the end';
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
    add column switch_when_complete boolean not null default false,
    add column activated_at timestamptz,
    add constraint embedding_set_check check (element = 'halfvec' or dimensions <= 2000),
    add constraint embedding_set_check1 check (hnsw_ef_construction >= 2 * hnsw_m);
comment on table salesai.embedding_set is
    'A version of all embeddings: model, weights, dimensions, template. building: is being filled; ready: complete, waits for salesai.activate_embedding_set; active: the one that search uses; retired: was active and can be again. Its vectors are in salesai.embedding_<id>';
comment on column salesai.embedding_set.template is
    'What is embedded of a chunk: {heading} (kind, account, opportunity, subject, section), {date}, {kind} and {content} are put in';
comment on column salesai.embedding_set.element is 'vector: 4 bytes for each dimension; halfvec: 2';
alter table salesai.chunk
    drop constraint chunk_interaction_id_position_key, add unique (interaction_id, position) deferrable;

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
        or lower(a.name) = lower(reference) or lower(a.domain) = lower(reference));
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
      and (o.id::text = reference or o.external_id = reference or lower(o.name) = lower(reference));
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
        where r.deleted_at is null and (lower(r.email) = lower(person.email) or lower(r.name) = salesai.normalise_name(person.name))
        order by (lower(r.email) = lower(person.email)) desc nulls last, r.id limit 1) rep on true
    left join lateral (
        select c.id from salesai.contact c, salesai.interaction i
        where rep.id is null and c.deleted_at is null and i.id = $1
          and (lower(c.email) = lower(person.email)
               or lower(c.name) = salesai.normalise_name(person.name)
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
    perform salesai.store_participants(known.id, coalesce(item -> 'participants', '[]'));
    perform salesai.enqueue(known.id, known.version, item ->> 'lane');
    return known.id;
end
$$;
comment on function salesai.store_interaction(jsonb, bytea) is
    'Stores an interaction with its sealed payload and participants, and queues it. Unchanged payload: returns the known id';

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
    if coalesce(body, '') !~ '\S' then
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
    email_id bigint;
begin
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
            'subject', headers -> 'subject', 'thread_key', headers -> 'thread_key',
            'properties', metadata || jsonb_build_object('message_id', headers -> 'message_id', 'mail_kind', headers -> 'mail_kind'),
            'participants', headers -> 'participants', 'media_type', headers -> 'media_type', 'lane', lane),
        message);
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

-- Many at once. item: the arguments of the function for this kind, content for a transcript or body.
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
            return salesai.ingest_call(item ->> 'source', item ->> 'external_id', item ->> 'content',
                coalesce(item ->> 'format', 'auto'), item ->> 'account', item ->> 'opportunity', happened_at,
                nullif(item -> 'participants', 'null'), metadata, item ->> 'subject', lane);
        when 'note' then
            return salesai.ingest_note(item ->> 'source', item ->> 'external_id', item ->> 'content', item ->> 'account',
                item ->> 'opportunity', happened_at, metadata, item ->> 'subject', lane);
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
    'Always empty: insert into it, or copy salesai.inbox (kind, source, external_id, content) from stdin, ingests each row in the background lane. kind: call, note (content), email, document (payload). One bad row undoes the whole statement; salesai.ingest_batch goes on';

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
    owner_id bigint := salesai.external_reference('rep', $1, record ->> 'owner');
    account_id bigint := case when kind in ('contact', 'opportunity')
        then salesai.external_reference('account', $1, record ->> 'account') end;
    fields jsonb;
    sets text;
    names text;
    record_id bigint;
    is_new boolean;
    team_id bigint := salesai.external_reference('team', $1, record ->> 'team');
begin
    if team_id is null and kind in ('account', 'opportunity') then
        select min(m.team_id) into team_id from salesai.team_member m where m.rep_id = owner_id;
    end if;
    fields := jsonb_build_object('name', record -> 'name', 'properties', record, 'source_updated_at', record -> 'updated_at')
        || case kind
            when 'team' then '{}'
            when 'rep' then jsonb_build_object('email', record -> 'email')
            when 'account' then jsonb_build_object('domain', record -> 'domain', 'industry', record -> 'industry',
                'owner_rep_id', owner_id, 'team_id', team_id)
            when 'contact' then jsonb_build_object('account_id', account_id, 'email', record -> 'email', 'title', record -> 'title')
            when 'opportunity' then jsonb_build_object('account_id', account_id,
                -- A source that says nothing of it leaves what is known.
                'stage', coalesce(record ->> 'stage',
                    (select o.stage from salesai.opportunity o where o.source = $1 and o.external_id = record ->> 'external_id'),
                    case when record ? 'fields' then 'unknown' end),
                'amount', record -> 'amount', 'currency', record -> 'currency', 'close_date', record -> 'close_date',
                'owner_rep_id', owner_id, 'team_id', team_id)
        end;
    select string_agg(format('%I', f), ', '), string_agg(format('%I = excluded.%1$I', f), ', ')
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
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, h ->> 'stage', (h ->> 'entered_at')::timestamptz
            from jsonb_array_elements(coalesce(record -> 'stage_history', '[]')) h
            on conflict do nothing;
        -- A source without a history of its own: what changes is noted when it comes.
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, record ->> 'stage', coalesce((record ->> 'updated_at')::timestamptz, now())
            where record ->> 'stage' is not null and record ->> 'stage' is distinct from (
                select h.stage from salesai.opportunity_stage_history h where h.opportunity_id = record_id
                order by h.entered_at desc limit 1)
            on conflict do nothing;
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
        return query values (null::bigint, 'unchanged');
    end if;
end
$$;
comment on function salesai.delete_crm_record(text, text, jsonb) is 'Marks a CRM record as deleted; use salesai.ingest_crm with "deleted": true';

-- Field names are compared without case and underscores, so that exports in snake case fit as well.
create function salesai.crm_record(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        when 'salesforce' then jsonb_build_object(
            'external_id', f ->> 'id', 'owner', f ->> 'ownerid', 'account', f ->> 'accountid', 'email', f ->> 'email',
            'title', f ->> 'title', 'industry', f ->> 'industry', 'stage', f ->> 'stagename', 'amount', f ->> 'amount',
            'currency', f ->> 'currencyisocode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), '')),
            'domain', salesai.domain_of(f ->> 'website'),
            'updated_at', coalesce(f ->> 'lastmodifieddate', f ->> 'systemmodstamp', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'isdeleted', 'false')::boolean)
        when 'hubspot' then jsonb_build_object(
            'external_id', coalesce(f ->> 'id', f ->> 'hsobjectid', f ->> 'dealid', f ->> 'ownerid'),
            'owner', coalesce(f ->> 'hubspotownerid', f ->> 'propertyhubspotownerid'), 'account', f ->> 'associatedcompanyid',
            'email', f ->> 'email', 'title', f ->> 'jobtitle', 'industry', f ->> 'industry',
            'stage', coalesce(f ->> 'dealstage', f ->> 'dealpipelinestageid'), 'amount', f ->> 'amount',
            'currency', f ->> 'dealcurrencycode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'dealname', f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), ''), f ->> 'email'),
            'domain', coalesce(f ->> 'domain', salesai.domain_of(f ->> 'website')),
            'updated_at', coalesce(f ->> 'hslastmodifieddate', f ->> 'updatedat', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'archived', f ->> 'isdeleted', 'false')::boolean)
        end) || jsonb_build_object('fields', record) end
    from (select jsonb_object_agg(regexp_replace(lower(regexp_replace(e.key, '^property_(hs_)?', '')), '_', '', 'g'), e.value) as f
          from jsonb_each(record || case jsonb_typeof(record -> 'properties') when 'object' then record -> 'properties' else '{}' end) e
          where e.value not in ('""', 'null') and jsonb_typeof(e.value) <> 'object') fields
$$;
comment on function salesai.crm_record(text, jsonb) is
    'A record of Salesforce or HubSpot, as their APIs or Fivetran''s exports give it, in the fields of salesai.ingest_crm; the source''s own stay below "fields"';

create function salesai.domain_of(website text) returns text
language sql immutable strict parallel safe
as $$ select pg_catalog.lower(pg_catalog.substring(website, '^(?:[a-zA-Z]+://)?(?:www\.)?([^/:?# ]+\.[^/:?# ]+)')) $$;
comment on function salesai.domain_of(text) is 'Host of a web address, without www';

create function salesai.ingest_crm(source text, kind text, records jsonb, shape text default 'plain')
returns table (external_id text, id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    record jsonb;
begin
    if kind is null or kind not in ('team', 'rep', 'account', 'contact', 'opportunity') then
        raise exception 'unknown kind of CRM record "%"', kind using
            errcode = '22023', hint = 'Use team, rep, account, contact or opportunity.';
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
                record := salesai.crm_record(shape, record);
                external_id := record ->> 'external_id';
            end if;
            if coalesce(external_id, '') <> '' and (record ->> 'deleted')::boolean then
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
    'Upserts CRM records (kind: team, rep, account, contact, opportunity) by external_id. outcome: inserted, updated, unchanged, deleted, stale (updated_at is before that of what is stored, which stays), or "rejected: ..." for a bad record, which blocks no other. Fields: name, updated_at, deleted; team: -; rep: email, team; account: domain, industry, owner; contact: account, email, title; opportunity: account, owner, stage, amount, currency, close_date, stage_history. shape: plain, or salesforce or hubspot for the fields of those';

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
    execute format(
        'create table salesai.%I (
             chunk_id bigint primary key references salesai.chunk on delete cascade,
             embedding @extschema:vector@.%I(%s) not null)', table_name, made.element, dimensions);
    if indexed then
        execute salesai.embedding_index_statement(made.id, online => false);
    end if;
    execute format('alter table salesai.%I enable row level security, force row level security', table_name);
    execute format(
        'create policy visible on salesai.%I
             using (exists (select from salesai.chunk c where c.id = chunk_id))
             with check (salesai.writes())', table_name);
    execute format(
        'grant select on salesai.%I to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
         grant select, insert, update, delete on salesai.%1$I to salesai_worker', table_name);
    execute format('comment on table salesai.%I is %L', table_name,
        format('Embeddings of set %s: %s, %s dimensions', made.id, model, dimensions));
    return made.id;
end
$$;
comment on function salesai.create_embedding_set(text, text, integer, text, boolean) is
    'Makes an embedding set in state "building" with its own table; element and HNSW parameters are the settings salesai.embedding_element, hnsw_m and hnsw_ef_construction';

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
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when i.indisvalid then '{}'
        when i.indisvalid is null then array[salesai.embedding_index_statement(set_id, online => true)]
        else array[format('drop index concurrently salesai.%I', 'embedding_' || set_id || '_index'),
                   salesai.embedding_index_statement(set_id, online => true)] end
    from (select) one
    left join pg_index i on i.indexrelid = to_regclass(format('salesai.%I', 'embedding_' || set_id || '_index'))
$$;
comment on function salesai.embedding_index_steps(bigint) is 'What is still to be run for a valid index of an embedding set';

-- For servers without a worker: inside the caller's transaction, which then holds off changes of chunks.
create function salesai.build_embedding_index(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
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

create function salesai.activate_embedding_set(set_id bigint) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    wanted constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
begin
    if wanted.state = 'active' then
        return wanted.state;
    end if;
    if not exists (select from salesai.missing_embeddings(set_id)) and salesai.embedding_index_steps(set_id) = '{}' then
        delete from salesai.job j where j.embedding_set_id = set_id;
        perform salesai.switch_embedding_set(set_id);
        return 'active';
    end if;
    update salesai.embedding_set s set state = 'building', switch_when_complete = true where s.id = set_id;
    -- Jobs that are under way fail to find themselves, and what they did counts.
    delete from salesai.job j where j.embedding_set_id = set_id;
    perform salesai.enqueue_missing_embeddings(set_id);
    return 'building';
end
$$;
comment on function salesai.activate_embedding_set(bigint) is
    'Makes this set the one that search uses: at once when it is complete, else as soon as the chunks that it lacks are embedded. Returns its state then: active or building. Goes back to a retired set as well';

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
    if salesai.index_build_progress('embedding_' || set_id) is not null then
        raise exception 'the index of embedding set % is being built', set_id using errcode = '55006',
            hint = 'Wait for it, or end the index builder: select pg_terminate_backend(pid) from pg_stat_activity where backend_type = ''pg_salesai index builder''.';
    end if;
    delete from salesai.job_error e using salesai.job j where j.embedding_set_id = set_id and e.job_id = j.id;
    delete from salesai.embedding_set s where s.id = set_id;
    execute format('drop table if exists salesai.%I', 'embedding_' || set_id);
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
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses_max constant integer := 10;
    lost record;
begin
    -- Whoever holds it dies: it fails, so that others get their turn.
    for lost in
        select * from salesai.job j where j.state = 'running' and j.lane = any (lanes) and j.losses >= losses_max
    loop
        if salesai.is_lost(lost.lease_expires_at, lost.holder_pid, lost.holder_started_at) then
            perform salesai.fail_job(lost.id, lost.lease_token, 'record_permanent', 'run',
                format('its worker died or was too slow %s times', losses_max));
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
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint)
language sql
set search_path = pg_catalog, pg_temp
as $$
    with lost as materialized (
        select j.id
        from salesai.job j
        where j.state = 'running' and j.lane = any (lanes) and salesai.is_lost(j.lease_expires_at, j.holder_pid, j.holder_started_at)
        limit jobs_max
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
    returning j.id, j.interaction_id, j.version, j.lease_token, j.kind, j.embedding_set_id
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
    'Queues failed jobs again, from the step that failed: all, or those of a source, or whose last failure was of this class or step (then also those that wait for their next attempt); returns how many';

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
    perform salesai.store_participants(item.id, (
        select coalesce(jsonb_agg(distinct jsonb_build_object('name', s ->> 'speaker')), '[]')
        from jsonb_array_elements(segments) s where s ->> 'speaker' is not null));
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
    left join salesai.participant p on p.interaction_id = item.id and p.name = s.value ->> 'speaker';
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
    select salesai.heading(i.id), s.position, s.turn, p.name, s.start_char, s.end_char, s.content, i.kind,
        to_char(i.occurred_at at time zone 'UTC', 'YYYY-MM-DD'), i.language, s.part,
        i.kind in ('call', 'meeting') and length(s.content) < 60 and salesai.is_backchannel(s.content)
    from salesai.interaction i
    join salesai.segment s on s.interaction_id = i.id and s.version = $2
    left join salesai.participant p on p.id = s.participant_id
    where i.id = $1
    order by s.position
$$;
comment on function salesai.job_segments(bigint, integer) is 'What a job chunks and embeds';

create function salesai.indexed_chunks(interaction_id bigint) returns table (first_position integer, heading text, content text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select c.first_position, c.heading, c.content from salesai.chunk c where c.interaction_id = $1 order by c.position
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
        token_count, heading, content, content_hash, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id)
    select i.id, $2, g.position, g.first_position, g.last_position, g.start_char, g.end_char, g.token_count, g.heading,
        g.content, g.hash, i.kind, i.occurred_at, i.account_id, i.opportunity_id, i.owner_rep_id, i.team_id
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
returns table (chunk_id bigint, heading text, content text, kind text, occurred_on text)
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
        'select c.id, c.heading, c.content, c.kind, to_char(c.occurred_at at time zone ''UTC'', ''YYYY-MM-DD'')
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

create or replace function salesai.search(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60)
returns table (chunk_id bigint, interaction_id bigint, occurred_at timestamptz, speaker text, start_ms bigint,
    end_ms bigint, content text, dense_rank bigint, lexical_rank bigint, score double precision)
language plpgsql stable parallel restricted cost 200000 rows 10
set search_path = pg_catalog, pg_temp
-- The index goes on until enough rows pass the filters and row-level security.
set hnsw.iterative_scan = 'strict_order'
set hnsw.max_scan_tuples = 2147483647
as $$
declare
    filters constant text := '
        ($1 is null or c.account_id = $1) and ($2 is null or c.opportunity_id = $2)
        and ($3 is null or c.kind = any ($3)) and ($4 is null or c.occurred_at >= $4)
        and ($5 is null or c.occurred_at < $5)
        and ($6 is null or exists (
            select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position and p.side = $6))';
    -- Deeper than k, so that a row which only one leg ranks high is still fused.
    depth constant integer := greatest(4 * k, 50);
    account_id bigint;
    opportunity_id bigint;
    active salesai.embedding_set;
    dense_leg text := 'select null::bigint as chunk_id, null::bigint as rank where false';
    lexical_leg text := dense_leg;
    embedding real[];
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
    if alpha is null or alpha not between 0 and 1 or rrf_k is null or rrf_k < 1 then
        raise exception 'alpha must be between 0 and 1, rrf_k at least 1' using errcode = '22023';
    end if;
    if speaker_side not in ('internal', 'external', 'unknown') then
        raise exception 'unknown speaker side "%"', speaker_side using
            errcode = '22023', hint = 'Use internal, external or unknown.';
    end if;
    account_id := salesai.resolve_account(account);
    opportunity_id := salesai.resolve_opportunity(opportunity);

    if mode <> 'lexical' then
        select * into active from salesai.embedding_set s where s.state = 'active';
    end if;
    if active.id is not null then
        select v into embedding from salesai.model_embedding_values(active.model, array[query], null, active.model_sha256) v;
        dense_leg := format('
            select n.chunk_id, row_number() over (order by n.distance, n.chunk_id) as rank
            from (select c.id as chunk_id, v.embedding operator(@extschema:vector@.<=>) $7::@extschema:vector@.%1$I as distance
                  from salesai.%2$I v join salesai.chunk c on c.id = v.chunk_id
                  where %3$s
                  order by v.embedding operator(@extschema:vector@.<=>) $7::@extschema:vector@.%1$I
                  limit $9) n', active.element, 'embedding_' || active.id, filters);
    end if;
    if mode <> 'dense' then
        lexical_leg := format('
            select n.chunk_id, row_number() over (order by n.rank desc, n.chunk_id) as rank
            from (select c.id as chunk_id, ts_rank_cd(c.lexemes, $8, 1) as rank
                  from salesai.chunk c
                  where c.lexemes @@ $8 and %s
                  order by rank desc, c.id
                  limit $9) n', filters);
    end if;
    return query execute format('
        with dense as (%s), lexical as (%s),
        fused as (
            select coalesce(d.chunk_id, l.chunk_id) as chunk_id, d.rank as dense_rank, l.rank as lexical_rank,
                   coalesce($10 / ($11 + d.rank), 0) + coalesce((1 - $10) / ($11 + l.rank), 0) as score
            from dense d full join lexical l on l.chunk_id = d.chunk_id
            order by score desc, 1
            limit $12)
        select c.id, c.interaction_id, c.occurred_at, who.speaker, who.start_ms, who.end_ms, c.content,
               f.dense_rank, f.lexical_rank, f.score
        from fused f
        join salesai.chunk c on c.id = f.chunk_id
        left join lateral (
            select case when count(distinct s.participant_id) = 1 then min(p.name) end as speaker,
                   min(s.start_ms) as start_ms, max(s.end_ms) as end_ms
            from salesai.segment s left join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position) who on true
        order by f.score desc, c.id', dense_leg, lexical_leg)
        using account_id, opportunity_id, kinds, since, until, speaker_side, embedding,
              salesai.lexical_query(query), depth, alpha::double precision, rrf_k, k;
end
$$;
comment on function salesai.search(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer) is
    'Chunks that fit a query, best first. Filters and row-level security bind both legs before fusion; k rows come back whenever k qualify. speaker is set when one person says all of the chunk. dense_rank and lexical_rank are NULL where that leg did not rank the row. mode: hybrid, dense, lexical (needs no sidecar); alpha: weight of the dense leg; score: alpha/(rrf_k + dense_rank) + (1 - alpha)/(rrf_k + lexical_rank)';

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
    select i.source, count(*) / 300.0 as per_second from salesai.interaction i
    where i.processed_at > now() - interval '5 minutes' group by i.source)
select c.source, c.pending, c.running, c.failed, c.oldest_created_at,
    coalesce(extract(epoch from clock_timestamp() - c.oldest_created_at), 0)::numeric(12, 3) as lag_s,
    coalesce(f.per_second, 0)::numeric(12, 3) as finished_per_s,
    ((c.pending + c.running) / f.per_second)::numeric(12, 1) as eta_s,
    exists (select from salesai.queue_pause p where p.source in ('', c.source)) as paused
from counted c
left join finished f on f.source = c.source;
comment on view salesai.source_status is
    'The queue by source; the empty one is work on embedding sets. lag_s: age of the oldest job that is not done; finished_per_s: interactions that the caller may see, over the last 5 minutes; eta_s: NULL when nothing was finished in them';

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

create view salesai.embedding_sets with (security_invoker) as
select s.id, s.model, s.model_sha256, s.dimensions, s.element, s.template, s.state,
    (select count(*) from salesai.chunk) as chunks, salesai.embedding_count(s.id) as embeddings,
    case when salesai.embedding_index_steps(s.id) = '{}' then 1
         else coalesce(salesai.index_build_progress('embedding_' || s.id), 0) end as index_progress,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state <> 'failed') as jobs,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state = 'failed') as failed_jobs,
    s.switch_when_complete, s.created_at, s.activated_at
from salesai.embedding_set s;
comment on view salesai.embedding_sets is
    'Embedding sets and how far each is: embeddings of chunks (counted, so it takes a while on large ones; chunks are those that the caller may see), index_progress from 0 to 1, jobs that are left';

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
         'Name this database in salesai.worker_databases and restart the server.'),
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
end
$$;
comment on function salesai.doctor() is 'Each piece that the system needs, whether it works, and how to mend it when it does not';

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
revoke execute on function salesai.count_jobs()
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- What the worker does to embedding sets, and what only an administrator decides.
revoke execute on function
    salesai.create_embedding_set(text, text, integer, text, boolean), salesai.switch_embedding_set(bigint),
    salesai.complete_embedding_set(bigint), salesai.build_embedding_index(bigint), salesai.enqueue_missing_embeddings(bigint),
    salesai.lock_embedding_sets(boolean)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function
    salesai.reembed(text, text, boolean), salesai.activate_embedding_set(bigint), salesai.drop_embedding_set(bigint),
    salesai.missing_embeddings(bigint), salesai.locked_embedding_set(bigint), salesai.pause(text), salesai.resume(text), salesai.recount_jobs()
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.apply_redaction(text, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke all on salesai.inbox, salesai.redaction_policy, salesai.job_count, salesai.queue_pause, salesai.source_status, salesai.embedding_sets from public;
grant select on salesai.redaction_policy, salesai.job_count, salesai.queue_pause, salesai.source_status, salesai.embedding_sets
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant insert, update, delete on salesai.redaction_policy, salesai.queue_pause to salesai_admin;
grant insert on salesai.inbox to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;
grant select, update on salesai.raw_payload to salesai_worker;
grant select on salesai.data_key to salesai_worker;
grant insert on salesai.segment to salesai_worker;
grant insert, update on salesai.participant to salesai_worker;

select pg_catalog.pg_extension_config_dump('salesai.redaction_policy'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.redaction_policy_id_seq'::regclass, '');
select pg_catalog.pg_extension_config_dump('salesai.job_count'::regclass, 'where false');
select pg_catalog.pg_extension_config_dump('salesai.queue_pause'::regclass, '');
