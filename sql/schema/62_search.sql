-- Hybrid search: a dense and a lexical leg with the same filters and row-level security, fused. Both legs find their
-- candidates with the rights of the worker and ask for each as the caller (pg_salesai/src/search), so that an index
-- serves whatever the caller may see.

-- Chunks that are compared once more, by a cross-encoder.
create function salesai.reranked_max(k integer) returns integer
language sql immutable strict parallel safe
as $$ select greatest(least(3 * k, 100), k, 30) $$;
comment on function salesai.reranked_max(integer) is 'How many of the best chunks salesai.search reranks to find k';

create function salesai.rerank(query text, passages text[], model text default null, timeout_ms integer default null) returns real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'rerank_wrapper';
comment on function salesai.rerank(text, text[], text, integer) is
    'How well each passage fits the query by a reranking model of the sidecar (a cross-encoder; NULL: the default one): logits in order, the higher the better';

create function salesai.diverse_order(scores real[], vectors real[], diversity real, hits_max integer) returns integer[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'diverse_order_wrapper';
comment on function salesai.diverse_order(real[], real[], real, integer) is
    'Numbers of candidates, the best first, in an order in which what is much the same does not stand together (maximal marginal relevance); vectors: all end to end';

-- In the order of the chunks; zeros where one has no vector.
create function salesai.stored_vectors(set_id bigint, chunk_ids bigint[]) returns real[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    vectors real[];
begin
    execute format(
        'select array_agg(v.value order by u.number, v.number)
         from unnest($1) with ordinality u (id, number)
         left join salesai.%I e on e.chunk_id = u.id
         cross join lateral unnest(coalesce(e.embedding::@extschema:vector@.vector::real[], array_fill(0::real, array[$2])))
             with ordinality v (value, number)', 'embedding_' || set_id)
        into vectors using chunk_ids, (select s.dimensions from salesai.embedding_set s where s.id = set_id);
    return vectors;
end
$$;
comment on function salesai.stored_vectors(bigint, bigint[]) is 'Vectors of chunks in an embedding set, end to end';

create function salesai.logistic(x double precision) returns double precision
language sql immutable parallel safe
-- Not strict, so that it is inlined; x is never NULL.
as $$ select 1 / (1 + exp(least(greatest(-x, -50), 50))) $$;
comment on function salesai.logistic(double precision) is 'From 0 to 1: 1 / (1 + e^-x); beyond 50 and -50 it stays, since floating point ends there';

-- Deeper than k, so that a row which only one leg ranks high is still fused.
create function salesai.leg_depth(k integer) returns integer
language sql immutable strict parallel safe
as $$ select greatest(4 * k, 100) $$;
comment on function salesai.leg_depth(integer) is 'How many chunks each leg of salesai.search ranks to find k';

-- options: mode, fusion, alpha, rrf_k, understand, recency_days, diversity, around. The one place that ranks; search and
-- search_explain show it.
create function salesai.ranked_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real,
    fused double precision, around double precision, boost double precision, recency double precision, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    parsed constant jsonb := salesai.parse_query(query);
    words constant text := parsed ->> 'text';
    searched constant text := salesai.searched_words(query, (options ->> 'understand')::boolean);
    mode constant text := options ->> 'mode';
    alpha constant double precision := case mode when 'dense' then 1 when 'lexical' then 0 else (options ->> 'alpha')::double precision end;
    rrf_k constant integer := options ->> 'rrf_k';
    diversity constant real := coalesce((options ->> 'diversity')::real, 0);
    fuses_scores constant boolean := options ->> 'fusion' = 'score';
    around_share constant double precision := coalesce((options ->> 'around')::double precision, 0);
    depth constant integer := salesai.leg_depth(k);
    wanted constant jsonb := salesai.wanted_chunks(filters, parsed);
    condition constant text := salesai.chunk_condition(wanted);
    prefixes constant text[] := array(select jsonb_array_elements_text(parsed -> 'prefixes'));
    among bigint[];
    terms text[];
    named record;
    product_phrases tsquery[];
    active salesai.embedding_set;
    embedding real[];
    dense_ids bigint[] := '{}';
    similarities real[] := '{}';
    lexical_ids bigint[] := '{}';
    lexical_scores real[] := '{}';
    dense_found integer := 0;
    lexical_found integer := 0;
    coverage double precision;
begin
    if words !~ '\S' then
        return;
    end if;
    among := salesai.qualifying_chunks(condition, wanted, depth);
    if mode <> 'lexical' then
        select * into active from salesai.embedding_set s where s.state = 'active';
    end if;
    if active.id is not null then
        select v into embedding from salesai.model_embedding_values(active.model, array[words], null, active.model_sha256) v;
        select coalesce(array_agg(h.chunk_id), '{}'), coalesce(array_agg(h.similarity), '{}') into dense_ids, similarities
        from salesai.dense_hits(active.id, embedding, wanted, among, depth) h;
        dense_found := cardinality(dense_ids);
    end if;
    if mode <> 'dense' then
        select coalesce(array_agg(distinct t.term), '{}') into terms
        from salesai.lexical_language l
        cross join lateral unnest(tsvector_to_array(to_tsvector(l.configuration::regconfig, searched))) t (term);
        -- What the other leg alone has found has a score in this one as well.
        select coalesce(array_agg(h.chunk_id), '{}'), coalesce(array_agg(h.score), '{}'), count(*) filter (where h.is_hit)
        into lexical_ids, lexical_scores, lexical_found
        from salesai.lexical_hits(terms, prefixes, wanted, among, depth, case when fuses_scores then dense_ids else '{}' end) h;
    end if;
    if fuses_scores and dense_found > 0 and lexical_found > 0 then
        select similarities || coalesce(array_agg(h.similarity), '{}'), dense_ids || coalesce(array_agg(h.chunk_id), '{}')
        into similarities, dense_ids
        from salesai.dense_hits(active.id, embedding, '{}', array(
            select u from unnest(lexical_ids) u except select u from unnest(dense_ids) u), depth) h;
        -- Where the best have few of the query's words, their scores tell little.
        if prefixes = '{}' then
            select max((select avg((t = any (tsvector_to_array(c.lexemes)))::integer)
                        from unnest(tsvector_to_array(to_tsvector(salesai.text_configuration(c.language), searched))) t))
            into coverage
            from unnest(lexical_ids[1:3]) u (id) join salesai.chunk c on c.id = u.id;
        end if;
    end if;
    if (options ->> 'understand')::boolean then
        select * into named from salesai.mentioned(words);
    else
        select '{}'::bigint[] as account_ids, '{}'::bigint[] as opportunity_ids, '{}'::text[] as products,
            null::timestamptz as since, null::timestamptz as until into named;
    end if;
    select array_agg(distinct phraseto_tsquery(l.configuration::regconfig, p.name)) into product_phrases
    from salesai.lexical_language l cross join unnest(named.products) p (name)
    where to_tsvector(l.configuration::regconfig, p.name) <> '';
    return query
        with dense as (
            select u.chunk_id, u.similarity, case when u.rank <= dense_found then u.rank end as rank
            from unnest(dense_ids, similarities) with ordinality u (chunk_id, similarity, rank)),
        lexical as (
            select u.chunk_id, u.score, case when u.rank <= lexical_found then u.rank end as rank
            from unnest(lexical_ids, lexical_scores) with ordinality u (chunk_id, score, rank)),
        candidate as (
            select coalesce(d.chunk_id, l.chunk_id) as chunk_id, d.rank as dense_rank, d.similarity, l.rank as lexical_rank, l.score,
                coalesce(l.score, 0)::double precision as words_score, coalesce(d.similarity, 0)::double precision as meaning
            from dense d full join lexical l on l.chunk_id = d.chunk_id),
        fused as (
            select c.*, case options ->> 'fusion'
                when 'rank' then coalesce(alpha / (rrf_k + c.dense_rank), 0) + coalesce((1 - alpha) / (rrf_k + c.lexical_rank), 0)
                -- How far above the other candidates it is, in their standard deviations.
                else alpha * coalesce((c.meaning - avg(c.meaning) over ()) / nullif(stddev_pop(c.meaning) over (), 0), 0)
                    + (1 - alpha) * coalesce(coverage, 1) * coalesce((c.words_score - avg(c.words_score) over ()) / nullif(stddev_pop(c.words_score) over (), 0), 0)
                end as fused
            from candidate c),
        placed as (
            select f.*, c.account_id, c.opportunity_id, c.occurred_at, c.interaction_id, c.position, c.kind in ('call', 'meeting') as is_talk
            from fused f join salesai.chunk c on c.id = f.chunk_id),
        -- A conversation stays with its subject for a while: what stands around a chunk says something of it.
        company as (
            select p.chunk_id, sum(near.fused / abs(near.position - p.position)) as fused
            from placed p join placed near on near.interaction_id = p.interaction_id
            where around_share > 0 and p.is_talk and abs(near.position - p.position) between 1 and 2
            group by p.chunk_id),
        weighed as (
            select p.*, around_share * coalesce(y.fused, 0) as around_part,
                (case when p.account_id = any (named.account_ids) or p.opportunity_id = any (named.opportunity_ids) then 1.5 else 1 end
                    * case when product_phrases is not null and exists (
                          select from salesai.chunk c, unnest(product_phrases) phrase
                          where c.id = p.chunk_id and c.lexemes @@ phrase) then 1.5 else 1 end
                    * case when coalesce(named.since, named.until) is not null
                          and p.occurred_at >= coalesce(named.since, '-infinity') and p.occurred_at < coalesce(named.until, 'infinity')
                          then 1.5 else 1 end)::double precision as boost,
                case when options ->> 'recency_days' is null then 1
                     else 0.5 ^ least(greatest(extract(epoch from now() - p.occurred_at)::double precision
                                               / 86400 / (options ->> 'recency_days')::double precision, 0), 1000) end
                    ::double precision as recency
            from placed p left join company y on y.chunk_id = p.chunk_id),
        scored as (
            select w.*, case options ->> 'fusion'
                when 'rank' then w.fused * w.boost * w.recency
                else salesai.logistic(w.fused + w.around_part + ln(w.boost)) * w.recency end as total
            from weighed w
            order by total desc, w.chunk_id
            limit case when diversity > 0 then depth else k end)
        select s.chunk_id, s.dense_rank, s.similarity, s.lexical_rank, s.score, s.fused, s.around_part, s.boost, s.recency, s.total
        from scored s order by s.total desc, s.chunk_id;
end
$$;
comment on function salesai.ranked_chunks(text, integer, jsonb, jsonb) is 'The best chunks of both legs, and how each came by its score';

-- A cross-encoder's logit takes the place of what the legs made.
create function salesai.reranked_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real, fused double precision,
    around double precision, boost double precision, recency double precision, rerank_score real, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if not (options ->> 'rerank')::boolean then
        return query
            select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency,
                null::real, r.score
            from salesai.ranked_chunks(query, k, filters, options) with ordinality r
            order by r.ordinality;
        return;
    end if;
    return query
        with ranked as materialized (
            select * from salesai.ranked_chunks(query, salesai.reranked_max(k), filters, options || '{"diversity": 0}') with ordinality),
        listed as (
            select array_agg(c.heading || e'\n' || c.content order by r.ordinality) as passages
            from ranked r join salesai.chunk c on c.id = r.chunk_id)
        select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency,
            s.score, salesai.logistic(s.score + ln(r.boost)) * r.recency
        from listed l
        cross join lateral unnest(salesai.rerank(salesai.parse_query(query) ->> 'text', l.passages)) with ordinality s (score, place)
        join ranked r on r.ordinality = s.place
        order by 11 desc, r.chunk_id
        limit case when (options ->> 'diversity')::real > 0 then salesai.reranked_max(k) else k end;
end
$$;
comment on function salesai.reranked_chunks(text, integer, jsonb, jsonb) is 'salesai.ranked_chunks, ranked once more by a cross-encoder where the options say so';

-- With diversity some better ones make room for others.
create function salesai.chosen_chunks(query text, k integer, filters jsonb, options jsonb)
returns table (chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real, fused double precision,
    around double precision, boost double precision, recency double precision, rerank_score real, score double precision)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    chunk_ids bigint[];
    scores real[];
begin
    if (options ->> 'diversity')::real = 0 then
        return query select * from salesai.reranked_chunks(query, k, filters, options);
        return;
    end if;
    return query
        with ranked as materialized (
            select * from salesai.reranked_chunks(query, k, filters, options) with ordinality),
        listed as (
            select array_agg(r.chunk_id order by r.ordinality) as ids, array_agg(greatest(r.score, 1e-37)::real order by r.ordinality) as scores
            from ranked r)
        select r.chunk_id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score, r.fused, r.around, r.boost, r.recency, r.rerank_score, r.score
        from listed l
        cross join lateral unnest(salesai.diverse_order(l.scores, coalesce(
            (select salesai.stored_vectors(e.id, l.ids) from salesai.embedding_set e where e.state = 'active'), '{}'),
            (options ->> 'diversity')::real, k)) with ordinality o (number, place)
        join ranked r on r.ordinality = o.number
        order by o.place;
end
$$;
comment on function salesai.chosen_chunks(text, integer, jsonb, jsonb) is 'The chunks that salesai.search returns: salesai.reranked_chunks, made diverse as the options say';

-- What both functions below accept, checked; filters as salesai.chunk_condition takes them.
create function salesai.search_filters(
    account text, opportunity text, kinds text[], since timestamptz, until timestamptz, speaker_side text, speaker text,
    sources text[], rep text, team text, language text, properties jsonpath) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    rep_ids bigint[];
    team_ids bigint[];
begin
    if speaker_side not in ('internal', 'external', 'unknown') then
        raise exception 'unknown speaker side "%"', speaker_side using
            errcode = '22023', hint = 'Use internal, external or unknown.';
    end if;
    if rep is not null then
        select array_agg(r.id) into rep_ids from salesai.rep r
        where r.deleted_at is null and (r.id::text = rep or r.external_id = rep or lower(r.email) = lower(rep) or lower(r.name) = lower(rep));
        rep_ids := array[salesai.only_match('rep', rep, rep_ids)];
    end if;
    if team is not null then
        select array_agg(t.id) into team_ids from salesai.team t
        where t.deleted_at is null and (t.id::text = team or t.external_id = team or lower(t.name) = lower(team));
        team_ids := array[salesai.only_match('team', team, team_ids)];
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'account_id', salesai.resolve_account(account), 'opportunity_id', salesai.resolve_opportunity(opportunity),
        'rep_id', rep_ids[1], 'team_id', team_ids[1], 'kinds', kinds::text, 'since', since, 'until', until,
        'speaker_side', speaker_side, 'speaker', speaker, 'sources', sources::text, 'language', language,
        'properties', properties::text));
end
$$;
comment on function salesai.search_filters(text, text, text[], timestamptz, timestamptz, text, text, text[], text, text, text, jsonpath) is
    'The filters of salesai.search, its names resolved';

create function salesai.search_options(
    query text, k integer, mode text, alpha real, rrf_k integer, fusion text, understand boolean, recency interval, diversity real,
    around real, rerank boolean) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    recency_days constant double precision := extract(epoch from recency) / 86400;
    understands constant boolean := coalesce(understand, false);
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
    if fusion is null or fusion not in ('score', 'rank') then
        raise exception 'unknown fusion "%"', fusion using errcode = '22023', hint = 'Use score or rank.';
    end if;
    if alpha is null or alpha not between 0 and 1 or rrf_k is null or rrf_k < 1 then
        raise exception 'alpha must be between 0 and 1, rrf_k at least 1' using errcode = '22023';
    end if;
    if recency_days <= 0 or diversity is null or diversity not between 0 and 1 or around not between 0 and 1 then
        raise exception 'recency must be positive, diversity and around between 0 and 1' using errcode = '22023';
    end if;
    return jsonb_build_object('mode', mode, 'fusion', fusion, 'alpha', alpha, 'rrf_k', rrf_k,
        'understand', understands, 'recency_days', recency_days, 'diversity', diversity,
        'around', coalesce(around, case when understands and fusion = 'score' and salesai.subject_of_discussion(salesai.parse_query(query) ->> 'text') is not null then 0.5 else 0 end),
        'rerank', coalesce(rerank, false));
end
$$;
comment on function salesai.search_options(text, integer, text, real, integer, text, boolean, interval, real, real, boolean) is
    'The options of salesai.ranked_chunks, checked';

create function salesai.search_support(request internal) returns internal
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'search_support_wrapper';
comment on function salesai.search_support(internal) is 'Tells the planner that a search gives k rows';

create function salesai.search(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60,
    fusion text default 'score', said_by text default null, sources text[] default null, rep text default null,
    team text default null, language text default null, properties jsonpath default null, understand boolean default true,
    recency interval default null, diversity real default 0, neighbours integer default 0, around real default null,
    rerank boolean default false)
returns table (chunk_id bigint, interaction_id bigint, occurred_at timestamptz, speaker text, start_ms bigint,
    end_ms bigint, content text, dense_rank bigint, lexical_rank bigint, score double precision,
    dense_similarity real, lexical_score real, before text, after text)
language plpgsql stable parallel restricted cost 200000 rows 10 support salesai.search_support
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    options constant jsonb := salesai.search_options($1, $2, $9, $10, $11, $12, $19, $20, $21, $23, $24);
    filters constant jsonb := salesai.search_filters($3, $4, $5, $6, $7, $8, $13, $14, $15, $16, $17, $18);
begin
    if $22 is null or $22 not between 0 and 20 then
        raise exception 'neighbours must be between 0 and 20' using errcode = '22023';
    end if;
    return query
        select c.id, c.interaction_id, c.occurred_at, who.speaker, who.start_ms, who.end_ms, c.content,
               r.dense_rank, r.lexical_rank, r.score, r.dense_similarity, r.lexical_score, near.before, near.after
        from salesai.chosen_chunks($1, $2, filters, options) with ordinality r
        join salesai.chunk c on c.id = r.chunk_id
        left join lateral (
            select case when count(distinct s.participant_id) = 1 then min(p.name) end as speaker,
                   min(s.start_ms) as start_ms, max(s.end_ms) as end_ms
            from salesai.segment s left join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position) who on true
        left join lateral (
            select string_agg(n.content, e'\n' order by n.position) filter (where n.position < c.position) as before,
                   string_agg(n.content, e'\n' order by n.position) filter (where n.position > c.position) as after
            from salesai.chunk n
            where $22 > 0 and n.interaction_id = c.interaction_id and n.position between c.position - $22 and c.position + $22) near on true
        order by r.ordinality;
end
$$;
comment on function salesai.search(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer,
    text, text, text[], text, text, text, jsonpath, boolean, interval, real, integer, real, boolean) is
    'Chunks that fit a query, best first. In the query "..." must be there word for word, -word must not, word* stands for all that begin so. Filters and row-level security bind both legs before fusion; k rows come back whenever k qualify. speaker is set when one person says all of the chunk; said_by (name or e-mail address), rep and team (id, external id, name; rep also e-mail address), sources, language (ISO 639-1) and properties (a jsonpath on the interaction''s) filter. mode: hybrid, dense, lexical (needs no sidecar). dense_rank and lexical_rank are NULL where that leg did not rank the row. fusion: score (how far a chunk is above the other candidates in both legs, alpha the weight of the dense one, 1 - alpha and the share of the query''s words that the best have that of the lexical one; score is 0 to 1) or rank (alpha/(rrf_k + dense_rank) + (1 - alpha)/(rrf_k + lexical_rank)). understand: chunks of accounts and opportunities that the query names, about products that it names and of a time that it names ("last quarter") count more. recency: the time after which a chunk counts half. diversity, 0 to 1: what is much the same does not stand together. neighbours: so many chunks before and after come along. around, 0 to 1: in calls and meetings the two chunks before and after count too, for who wants passages rather than facts (NULL: 0.5 where the query asks for a discussion and understand is on, else 0). rerank: the best are compared once more by a cross-encoder of the sidecar, which takes its time (with mode lexical too)';

create function salesai.search_explain(
    query text, k integer default 10, account text default null, opportunity text default null,
    kinds text[] default null, since timestamptz default null, until timestamptz default null,
    speaker_side text default null, mode text default 'hybrid', alpha real default 0.5, rrf_k integer default 60,
    fusion text default 'score', said_by text default null, sources text[] default null, rep text default null,
    team text default null, language text default null, properties jsonpath default null, understand boolean default true,
    recency interval default null, diversity real default 0, around real default null, rerank boolean default false)
returns table (rank bigint, chunk_id bigint, dense_rank bigint, dense_similarity real, lexical_rank bigint, lexical_score real,
    words text, fused double precision, around_part double precision, boost double precision, recency_factor double precision,
    rerank_score real, score double precision, scan text, content text)
language plpgsql stable cost 200000 rows 10 support salesai.search_support
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    options constant jsonb := salesai.search_options($1, $2, $9, $10, $11, $12, $19, $20, $21, $22, $23);
    filters constant jsonb := salesai.search_filters($3, $4, $5, $6, $7, $8, $13, $14, $15, $16, $17, $18);
    searched constant text := salesai.searched_words($1, (options ->> 'understand')::boolean);
    wanted constant jsonb := salesai.wanted_chunks(filters, salesai.parse_query($1));
    condition constant text := salesai.chunk_condition(wanted);
    among constant bigint[] := salesai.qualifying_chunks(
        condition, wanted, salesai.leg_depth(case when $23 then salesai.reranked_max($2) else $2 end));
begin
    return query
        select r.ordinality, c.id, r.dense_rank, r.dense_similarity, r.lexical_rank, r.lexical_score,
            (select string_agg(format('%s %s', u.lexeme, (
                        select string_agg(format('%s %s', w.field, w.times), ', ' order by w.field)
                        from (select case weight when 'A' then 'content' when 'B' then 'heading' else 'speaker' end as field, count(*) as times
                              from unnest(u.weights) weight group by 1) w)), '; ' order by u.lexeme)
             from unnest(c.lexemes) u
             where u.lexeme = any (tsvector_to_array(to_tsvector(salesai.text_configuration(c.language), searched)))),
            r.fused, r.around, r.boost, r.recency, r.rerank_score, r.score,
            case when among is null then 'all chunks' else format('those that qualify: %s chunks', cardinality(among)) end, c.content
        from salesai.chosen_chunks($1, $2, filters, options) with ordinality r
        join salesai.chunk c on c.id = r.chunk_id
        order by r.ordinality;
end
$$;
comment on function salesai.search_explain(text, integer, text, text, text[], timestamptz, timestamptz, text, text, real, integer,
    text, text, text[], text, text, text, jsonpath, boolean, interval, real, real, boolean) is
    'As salesai.search: how each chunk came by its rank. words: stems of the query that it has, and where; fused: of both legs, before what the chunks around it add in conversations (around_part), boost (named accounts, opportunities, products and times) and recency_factor; rerank_score: the cross-encoder''s logit, which then takes the place of fused and around_part; scan: whether the legs ranked all chunks and passed by those that do not qualify, or only those that do';
