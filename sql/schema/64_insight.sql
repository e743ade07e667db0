-- insight(): search, one model call, citations checked against the stored text, answer kept.

create type salesai.insight_citation as (
    number integer, claim text, interaction_id bigint, segment_id bigint, speaker text,
    start_ms bigint, end_ms bigint, start_char integer, end_char integer, quote text, similarity real);

create type salesai.insight_result as (
    answer text, citations salesai.insight_citation[], confidence real, method text, abstained boolean,
    reason text, model text, adapter text, prompt_tokens integer, completion_tokens integer,
    elapsed_ms integer, insight_id bigint, details jsonb);
comment on type salesai.insight_result is 'method: generated (the model wrote it), extractive (sentences of the evidence) or abstained, then reason says why: no_match, not_permitted, unsupported, conflicting, model_unavailable. details: with explain, what was retrieved and how long each step took; contradictions, where the evidence has some: two statements each in the order of time, with the number of their citation';

create function salesai.answer_question(question text, evidence jsonb, options jsonb) returns jsonb
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'answer_question_wrapper';
comment on function salesai.answer_question(text, jsonb, jsonb) is
    'Answers a question from given evidence by one model call and checks each claim against it; used by salesai.insight';

create function salesai.segment_json(said salesai.segment, speaker text) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('segment_id', said.id, 'speaker', speaker, 'start_ms', said.start_ms, 'end_ms', said.end_ms,
        'start_char', said.start_char, 'end_char', said.end_char, 'content', said.content)
$$;
comment on function salesai.segment_json(salesai.segment, text) is 'A segment as evidence has it';

create function salesai.summary_evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with many as (
        select c.interaction_id, c.version, min(u.number) as rank, min(c.heading) as heading, min(c.account_id) as account_id,
            min(c.opportunity_id) as opportunity_id, min(c.occurred_at) as occurred_at, count(*) over () as interactions
        from unnest(chunk_ids) with ordinality u (chunk_id, number)
        join salesai.chunk c on c.id = u.chunk_id
        group by c.interaction_id, c.version)
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', cardinality(chunk_ids) + m.rank, 'interaction_id', m.interaction_id, 'account_id', m.account_id,
        'opportunity_id', m.opportunity_id, 'title', m.heading,
        'occurred_on', to_char(m.occurred_at at time zone 'UTC', 'YYYY-MM-DD'),
        'occurred_ms', floor(1000 * extract(epoch from m.occurred_at))::bigint, 'is_summary', true, 'segments', said.segments)
        order by m.rank), '[]')
    from many m
    join salesai.interaction_summary k on k.interaction_id = m.interaction_id and k.version = m.version
    cross join lateral (
        select jsonb_agg(salesai.segment_json(s, p.label) order by s.position) as segments
        from salesai.segment s left join salesai.speakers(m.interaction_id) p on p.participant_id = s.participant_id
        where s.interaction_id = m.interaction_id and s.version = m.version and s.id = any (k.segment_ids)) said
    -- A few fit side by side, and need nobody to speak for them.
    where m.interactions > 8 and said.segments is not null
$$;
comment on function salesai.summary_evidence(bigint[]) is 'Where chunks are of more than eight interactions: the summary of each, as evidence that is numbered behind the chunks';

create function salesai.evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', u.number, 'interaction_id', c.interaction_id, 'account_id', c.account_id,
        'opportunity_id', c.opportunity_id, 'title', c.heading,
        'occurred_on', to_char(c.occurred_at at time zone 'UTC', 'YYYY-MM-DD'),
        'occurred_ms', floor(1000 * extract(epoch from c.occurred_at))::bigint, 'segments', said.segments) order by u.number), '[]')
        || salesai.summary_evidence(chunk_ids)
    from unnest(chunk_ids) with ordinality u (chunk_id, number)
    join salesai.chunk c on c.id = u.chunk_id
    cross join lateral (
        select jsonb_agg(salesai.segment_json(s, p.label) order by s.position) as segments
        from salesai.segment s left join salesai.speakers(c.interaction_id) p on p.participant_id = s.participant_id
        where s.interaction_id = c.interaction_id and s.version = c.version
          and s.position between c.first_position and c.last_position
          -- What a mail quotes was said before, and is evidence where it was.
          and s.part = 'body'
          -- A long paragraph has several chunks: only what overlaps this one.
          and s.start_char < c.end_char and s.end_char > c.start_char) said
$$;
comment on function salesai.evidence(bigint[]) is 'Numbered evidence for a prompt: the segments of chunks, then salesai.summary_evidence, as the caller may see them';

create function salesai.evidence_digest(evidence jsonb) returns bytea
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(coalesce(jsonb_agg(jsonb_build_array(e.item -> 'title', e.item -> 'occurred_on', s.said ->> 'speaker', s.said ->> 'content')
        order by e.place, s.place), '[]')::text, 'UTF8'))
    from jsonb_array_elements(evidence) with ordinality e (item, place)
    cross join jsonb_array_elements(nullif(e.item -> 'segments', 'null')) with ordinality s (said, place)
$$;
comment on function salesai.evidence_digest(jsonb) is 'SHA-256 of what evidence says, and who and when; where it stands in the original does not count';

create function salesai.insight_filters(
    account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text, seed bigint) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('account', account, 'opportunity', opportunity, 'kinds', kinds, 'since', since,
        'until', until, 'speaker_side', speaker_side, 'seed', seed))
$$;
comment on function salesai.insight_filters(text, text, text[], timestamptz, timestamptz, text, bigint) is
    'What salesai.insight keeps of where it looked';

create function salesai.insight_options(
    evidence_count integer, model text, adapter text, timeout_ms integer, max_tokens integer, seed bigint, method text,
    conversation bigint, asked text) returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if evidence_count is null or evidence_count not between 1 and 50 then
        raise exception 'evidence_count must be between 1 and 50' using errcode = '22023';
    end if;
    if method not in ('generated', 'extractive') then
        raise exception 'method "%" is unknown', method using errcode = '22023', hint = 'Use generated or extractive, or NULL for either.';
    end if;
    return jsonb_strip_nulls(jsonb_build_object('model', model, 'adapter', adapter, 'timeout_ms', timeout_ms,
        'max_tokens', max_tokens, 'seed', seed, 'method', method, 'evidence_count', evidence_count, 'conversation', conversation,
        'asked', case when conversation is not null then asked end));
end
$$;
comment on function salesai.insight_options(integer, text, text, integer, integer, bigint, text, bigint, text) is
    'What salesai.insight keeps of how an answer was made; refuses what makes no sense';

create function salesai.conversation_context(conversation bigint, question text)
returns table (root bigint, asked text, account text, opportunity text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if question is null or question !~ '\S' then
        raise exception 'question must not be empty' using errcode = '22023';
    end if;
    asked := question;
    if conversation is not null then
        select coalesce(i.conversation, i.id) into root
        from salesai.insight i where i.id = conversation_context.conversation;
        if root is null then
            raise exception 'conversation % does not exist', conversation using errcode = 'P0002',
                hint = 'It is the insight_id of an answer that you were given.';
        end if;
        select concat_ws(' ', string_agg(e.question, ' ' order by e.id), conversation_context.question),
            (array_agg(e.filters ->> 'account' order by e.id desc))[1], (array_agg(e.filters ->> 'opportunity' order by e.id desc))[1]
        into asked, account, opportunity
        from (select i.id, i.question, i.filters from salesai.insight i
              where i.id = root or i.conversation = root
              order by i.id desc limit 2) e;
    end if;
    return next;
end
$$;
comment on function salesai.conversation_context(bigint, text) is
    'What a follow-up asks: the last two questions of the conversation and its own, and where the last one looked. root: the first answer';

create function salesai.understood_question(
    question text, account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text,
    evidence_count integer, model text, adapter text, timeout_ms integer, max_tokens integer, seed bigint, method text,
    conversation bigint)
returns table (asked text, filters jsonb, options jsonb)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select c.asked,
        -- A column goes before a parameter of the same name.
        salesai.insight_filters(
            coalesce(understood_question.account, case when understood_question.opportunity is null then c.account end),
            coalesce(understood_question.opportunity, case when understood_question.account is null then c.opportunity end),
            kinds, since, until, speaker_side, seed),
        salesai.insight_options(evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, c.root, c.asked)
    from salesai.conversation_context(conversation, question) c
$$;
comment on function salesai.understood_question(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, bigint) is
    'What the arguments of salesai.insight ask: the question after those before it, where to look (a follow-up that names neither account nor opportunity: where the last answer did), and how to answer';

create function salesai.focused_queries(question text) returns text[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'focused_queries_wrapper';
comment on function salesai.focused_queries(text) is
    'What is searched for a question: itself, then each of those that it joins by "and", with the names that it is about';

create function salesai.retrieve_evidence(question text, filters jsonb, evidence_count integer)
returns table (chunk_ids bigint[], retrieved jsonb, evidence jsonb)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Of the whole question as many as are wanted, of each part of it the best.
    with hit as (
        select q.query, q.place, h.chunk_id, h.interaction_id, h.dense_rank, h.lexical_rank, h.score
        from unnest(salesai.focused_queries(question)) with ordinality q (query, place)
        cross join lateral salesai.search(q.query, case q.place when 1 then evidence_count else 1 end, filters ->> 'account', filters ->> 'opportunity',
            case when filters ? 'kinds' then array(select jsonb_array_elements_text(filters -> 'kinds')) end,
            (filters ->> 'since')::timestamptz, (filters ->> 'until')::timestamptz, filters ->> 'speaker_side', around => 0) h),
    chosen as (select distinct on (h.chunk_id) h.* from hit h order by h.chunk_id, h.place)
    select array_agg(c.chunk_id order by c.place, c.score desc, c.chunk_id),
        jsonb_agg(jsonb_build_object('chunk_id', c.chunk_id, 'interaction_id', c.interaction_id, 'dense_rank', c.dense_rank,
            'lexical_rank', c.lexical_rank, 'score', c.score, 'query', c.query)
            order by c.place, c.score desc, c.chunk_id)
    into chunk_ids, retrieved
    from chosen c;
    evidence := salesai.evidence(chunk_ids);
    return next;
end
$$;
comment on function salesai.retrieve_evidence(text, jsonb, integer) is
    'One row: the chunks that answer a question, evidence_count of the whole, best first, then the best of each part (salesai.focused_queries), how search ranked them, and what they say (salesai.evidence)';

create function salesai.insight_details(retrieved jsonb, evidence jsonb, answered jsonb, search_ms numeric, explain boolean) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select nullif(case when answered ? 'contradictions' then jsonb_build_object('contradictions', answered -> 'contradictions') else '{}' end
        || case when explain then jsonb_build_object('retrieved', coalesce(nullif(retrieved, 'null'), '[]'), 'evidence_characters', (
                select coalesce(sum(length(s ->> 'content')), 0)
                from jsonb_array_elements(evidence) e cross join jsonb_array_elements(nullif(e -> 'segments', 'null')) s),
            'search_ms', search_ms, 'prompt_version', answered -> 'prompt_version') || coalesce(answered -> 'timings', '{}') else '{}' end, '{}')
$$;
comment on function salesai.insight_details(jsonb, jsonb, jsonb, numeric, boolean) is 'What there is to say about an answer: what contradicts what in its evidence; with explain also what was retrieved, how much of it was read, by which prompt template the model was asked, how long each step took; NULL where there is nothing';

create function salesai.insight(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, explain boolean default false, conversation bigint default null)
returns salesai.insight_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    understood record;
    found record;
    searched timestamptz;
    answered jsonb;
    result salesai.insight_result;
begin
    select * into understood from salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation);
    select * into found from salesai.retrieve_evidence(understood.asked, understood.filters, evidence_count);
    searched := clock_timestamp();
    answered := salesai.answer_question(understood.asked, found.evidence, understood.options);
    result := jsonb_populate_record(null::salesai.insight_result, answered);
    result.abstained := result.method = 'abstained';
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - started);
    result.details := salesai.insight_details(found.retrieved, found.evidence, answered,
        round(1000 * extract(epoch from searched - started), 1), explain);
    if not current_setting('transaction_read_only')::boolean then
        result.insight_id := salesai.keep_insight(question, result, answered, understood.filters, understood.options,
            found.chunk_ids, found.evidence);
    end if;
    return result;
end
$$;
comment on function salesai.insight(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, boolean, bigint) is
    'Answers a question from the interactions that the caller may see. Every claim has a citation whose quote was found in the stored text; without support it abstains and says why. method: generated (the model writes, or it abstains), extractive (sentences of the evidence, which needs no language model), NULL for the first of them that has something to say. explain: result.details says what was retrieved and what took how long. conversation: the insight_id of an earlier answer that this question follows: it is understood after the two questions before it, and looks at the account or opportunity of the last one unless it names one. timeout_ms: for the answer, default salesai.timeout_ms, which also bounds the search. The answer is kept in salesai.insight, unless the transaction is read-only';

create function salesai.answer_stream(question text, evidence jsonb, options jsonb, kept jsonb) returns setof text
language c volatile strict parallel unsafe cost 1000000 rows 3 as 'MODULE_PATHNAME', 'answer_stream_wrapper';
comment on function salesai.answer_stream(text, jsonb, jsonb, jsonb) is
    'salesai.answer_question a sentence at a time; hands kept to salesai.keep_stream at the end';

create function salesai.insight_stream(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, conversation bigint default null)
returns setof text
language sql volatile cost 1000000 rows 3
set search_path = pg_catalog, pg_temp
as $$
    select salesai.answer_stream(u.asked, f.evidence, u.options, jsonb_build_object('question', question, 'filters', u.filters,
        'options', u.options, 'chunk_ids', f.chunk_ids, 'evidence', f.evidence, 'started', t.started))
    from (select clock_timestamp() as started) t
    cross join lateral salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation) u
    cross join lateral salesai.retrieve_evidence(u.asked, u.filters, evidence_count) f
$$;
comment on function salesai.insight_stream(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, bigint) is
    'salesai.insight a sentence at a time, each with the numbers of its citations, as soon as it is written and borne out by the evidence. In the select list (select salesai.insight_stream(...)) a driver that reads row by row, or a cursor, has each row before the next is written; a FROM clause collects all first. No row: there is no answer, and a notice says why. The answer is kept when it was read to its end';

create function salesai.keep_insight(
    question text, result salesai.insight_result, answered jsonb, filters jsonb, options jsonb, chunk_ids bigint[], evidence jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    insight_id bigint;
begin
    insert into salesai.insight (created_by, question, filters, answer, method, reason, confidence, model,
        model_sha256, adapter, prompt_tokens, completion_tokens, elapsed_ms, adapter_generation, evidence, evidence_sha256, options, conversation,
        prompt_version)
    values (salesai.current_role_name(), question, filters, result.answer, result.method, result.reason,
        result.confidence, result.model, answered ->> 'model_sha256', result.adapter, result.prompt_tokens,
        result.completion_tokens, result.elapsed_ms, (answered ->> 'adapter_generation')::bigint,
        chunk_ids, salesai.evidence_digest(evidence), options - 'conversation', (options ->> 'conversation')::bigint,
        (answered ->> 'prompt_version')::integer)
    returning id into insight_id;
    insert into salesai.citation (insight_id, number, claim, interaction_id, segment_id, speaker, start_ms,
        end_ms, start_char, end_char, quote, similarity)
    select insight_id, c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
        c.start_char, c.end_char, c.quote, c.similarity
    from unnest(result.citations) c;
    return insight_id;
end
$$;
comment on function salesai.keep_insight(text, salesai.insight_result, jsonb, jsonb, jsonb, bigint[], jsonb) is
    'Stores an answer with its citations, and what it was made from; returns its id';

create function salesai.keep_stream(answered jsonb, kept jsonb) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    result salesai.insight_result := jsonb_populate_record(null::salesai.insight_result, answered);
begin
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - (kept ->> 'started')::timestamptz);
    return salesai.keep_insight(kept ->> 'question', result, answered, kept -> 'filters', kept -> 'options',
        case when jsonb_typeof(kept -> 'chunk_ids') = 'array' then array(select jsonb_array_elements_text(kept -> 'chunk_ids')::bigint) end,
        kept -> 'evidence');
end
$$;
comment on function salesai.keep_stream(jsonb, jsonb) is 'Stores the answer of a stream that was read to its end';

create type salesai.insight_replay_result as (
    reproduced boolean, evidence text, model text, kept_answer text, kept_method text, answer text, method text,
    answer_today text, method_today text, evidence_gone bigint[], evidence_new bigint[], template text);
comment on type salesai.insight_replay_result is
    'reproduced: the same answer, method, reason and quotes; evidence: unchanged, changed (some of it is gone, hidden or edited) or gone; model: same or other, by the digest of its weights and the generation of the adapter, NULL where it did not write then or now; template: same or other, whether the prompt template of then is the active one, NULL where no model was asked. answer: from the evidence and by the template of then; answer_today: from what search finds now, by the template of now, NULL where it cannot be asked any more; evidence_gone, evidence_new: chunks that it no longer finds, or did not find then';

create function salesai.insight_replay(insight_id bigint, timeout_ms integer default null) returns salesai.insight_replay_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
-- A kept text would prove nothing.
set salesai.result_cache = off
as $$
declare
    kept salesai.insight;
    options jsonb;
    asked text;
    evidence jsonb;
    answered jsonb;
    today bigint[];
    evidence_today jsonb;
    answered_today jsonb;
    replay salesai.insight_replay_result;
begin
    select * into kept from salesai.insight i where i.id = insight_id;
    if kept.id is null then
        raise exception 'insight % does not exist', insight_id using errcode = 'P0002',
            hint = 'salesai.insight has those that you asked for.';
    end if;
    if kept.options is null then
        raise exception 'insight % cannot be replayed', insight_id using errcode = '55000',
            detail = 'It is of before version 0.3.0, which kept no evidence.';
    end if;
    options := kept.options || jsonb_strip_nulls(jsonb_build_object('timeout_ms', timeout_ms));
    asked := coalesce(options ->> 'asked', kept.question);
    evidence := salesai.evidence(kept.evidence);
    replay.template := case salesai.active_prompt_version('insight', kept.model) = kept.prompt_version
        when true then 'same' when false then 'other' end;
    answered := salesai.answer_question(asked, evidence,
        options || jsonb_strip_nulls(jsonb_build_object('prompt_version', kept.prompt_version)));
    begin
        select coalesce(r.chunk_ids, '{}'), r.evidence into today, evidence_today
        from salesai.retrieve_evidence(asked, kept.filters, (options ->> 'evidence_count')::integer) r;
        answered_today := case when today = coalesce(kept.evidence, '{}') and replay.template is distinct from 'other' then answered
            else salesai.answer_question(asked, evidence_today, options) end;
        replay.answer_today := answered_today ->> 'answer';
        replay.method_today := answered_today ->> 'method';
        replay.evidence_gone := array(select unnest(kept.evidence) except select unnest(today));
        replay.evidence_new := array(select unnest(today) except select unnest(kept.evidence));
    -- An account or opportunity that is gone, hidden or no longer the only one of its name.
    exception when no_data_found or invalid_parameter_value then
        null;
    end;
    replay.evidence := case
        when kept.evidence_sha256 = salesai.evidence_digest(evidence) then 'unchanged'
        when evidence = '[]' then 'gone'
        else 'changed' end;
    replay.model := case
        when kept.model_sha256 is null or not answered ? 'model_sha256' then null
        when kept.model_sha256 = answered ->> 'model_sha256'
            and kept.adapter_generation is not distinct from (answered ->> 'adapter_generation')::bigint then 'same'
        else 'other' end;
    replay.kept_answer := kept.answer;
    replay.kept_method := kept.method;
    replay.answer := answered ->> 'answer';
    replay.method := answered ->> 'method';
    replay.reproduced := (kept.answer, kept.method, kept.reason) is not distinct from (replay.answer, replay.method, answered ->> 'reason')
        and array(select c.quote from salesai.citation c where c.insight_id = kept.id order by c.number)
            = array(select c ->> 'quote' from jsonb_array_elements(coalesce(nullif(answered -> 'citations', 'null'), '[]')) with ordinality c (c, place)
                    order by place);
    return replay;
end
$$;
comment on function salesai.insight_replay(bigint, integer) is
    'Answers a kept question again: from the evidence of then with its options, seed and prompt template, which gives the same answer as long as evidence and weights are the same, and from what search finds today, by the template of today. Under the caller''s rights; nothing is kept. timeout_ms (NULL: as then) is for each of the two answers';
