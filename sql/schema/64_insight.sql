-- insight(): search, one model call, citations checked against the stored text, answer kept.

create type salesai.insight_citation as (
    number integer, claim text, interaction_id bigint, segment_id bigint, speaker text,
    start_ms bigint, end_ms bigint, start_char integer, end_char integer, quote text, similarity real);

create type salesai.insight_result as (
    answer text, citations salesai.insight_citation[], confidence real, method text, abstained boolean,
    reason text, model text, adapter text, prompt_tokens integer, completion_tokens integer,
    elapsed_ms integer, insight_id bigint);
comment on type salesai.insight_result is 'method: generated (the model wrote it), extractive (sentences of the evidence) or abstained, then reason says why: no_match, unsupported';

create function salesai.answer_question(question text, evidence jsonb, options jsonb) returns jsonb
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'answer_question_wrapper';
comment on function salesai.answer_question(text, jsonb, jsonb) is
    'Answers a question from given evidence by one model call and checks each claim against it; used by salesai.insight';

create function salesai.evidence(chunk_ids bigint[]) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'number', u.number, 'interaction_id', c.interaction_id, 'title', c.heading,
        'occurred_on', to_char(c.occurred_at at time zone 'UTC', 'YYYY-MM-DD'), 'segments', said.segments) order by u.number), '[]')
    from unnest(chunk_ids) with ordinality u (chunk_id, number)
    join salesai.chunk c on c.id = u.chunk_id
    cross join lateral (
        select jsonb_agg(jsonb_build_object('segment_id', s.id, 'speaker', p.name, 'start_ms', s.start_ms,
            'end_ms', s.end_ms, 'start_char', s.start_char, 'end_char', s.end_char, 'content', s.content) order by s.position) as segments
        from salesai.segment s left join salesai.participant p on p.id = s.participant_id
        where s.interaction_id = c.interaction_id and s.version = c.version
          and s.position between c.first_position and c.last_position
          -- A long paragraph has several chunks: only what overlaps this one.
          and s.start_char < c.end_char and s.end_char > c.start_char) said
$$;
comment on function salesai.evidence(bigint[]) is 'Numbered evidence for a prompt: the segments of chunks, as the caller may see them';

create function salesai.insight(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0)
returns salesai.insight_result
language plpgsql volatile cost 1000000
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    evidence jsonb;
    answered jsonb;
    result salesai.insight_result;
begin
    if question is null or question !~ '\S' then
        raise exception 'question must not be empty' using errcode = '22023';
    end if;
    if evidence_count is null or evidence_count not between 1 and 50 then
        raise exception 'evidence_count must be between 1 and 50' using errcode = '22023';
    end if;
    select salesai.evidence(array_agg(h.chunk_id order by h.score desc, h.chunk_id)) into evidence
    from salesai.search(question, evidence_count, account, opportunity, kinds, since, until, speaker_side) h;
    answered := salesai.answer_question(question, coalesce(evidence, '[]'), jsonb_strip_nulls(jsonb_build_object(
        'model', model, 'adapter', adapter, 'timeout_ms', timeout_ms, 'max_tokens', max_tokens, 'seed', seed)));
    result := jsonb_populate_record(null::salesai.insight_result, answered);
    result.abstained := result.method = 'abstained';
    result.elapsed_ms := 1000 * extract(epoch from clock_timestamp() - started);
    if not current_setting('transaction_read_only')::boolean then
        result.insight_id := salesai.keep_insight(question, result, answered ->> 'model_sha256', (answered ->> 'adapter_generation')::bigint,
            jsonb_strip_nulls(jsonb_build_object('account', account, 'opportunity', opportunity, 'kinds', kinds,
                'since', since, 'until', until, 'speaker_side', speaker_side, 'seed', seed)));
    end if;
    return result;
end
$$;
comment on function salesai.insight(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint) is
    'Answers a question from the interactions that the caller may see. Every claim has a citation whose quote was found in the stored text; without support it abstains and says why. timeout_ms: for the answer, default salesai.timeout_ms, which also bounds the search. The answer is kept in salesai.insight, unless the transaction is read-only';

create function salesai.keep_insight(
    question text, result salesai.insight_result, model_sha256 text, adapter_generation bigint, filters jsonb)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    insight_id bigint;
begin
    insert into salesai.insight (created_by, question, filters, answer, method, reason, confidence, model,
        model_sha256, adapter, prompt_tokens, completion_tokens, elapsed_ms, adapter_generation)
    values (salesai.current_role_name(), question, filters, result.answer, result.method, result.reason,
        result.confidence, result.model, model_sha256, result.adapter, result.prompt_tokens,
        result.completion_tokens, result.elapsed_ms, adapter_generation)
    returning id into insight_id;
    insert into salesai.citation (insight_id, number, claim, interaction_id, segment_id, speaker, start_ms,
        end_ms, start_char, end_char, quote, similarity)
    select insight_id, c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
        c.start_char, c.end_char, c.quote, c.similarity
    from unnest(result.citations) c;
    return insight_id;
end
$$;
comment on function salesai.keep_insight(text, salesai.insight_result, text, bigint, jsonb) is 'Stores an answer with its citations; returns its id';
