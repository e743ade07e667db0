-- Hybrid search: a dense and a lexical leg with the same filters and row-level security, fused. Both legs find their
-- candidates with the rights of the worker and ask for each as the caller (pg_salesai/src/search), so that an index
-- serves whatever the caller may see.

create function salesai.parse_query(query text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'parse_query_wrapper';
comment on function salesai.parse_query(text) is
    'A query taken apart: text (all words that are looked for), phrases ("..."), excluded (-word, -"..."), prefixes (word*)';

create function salesai.lexical_hits(
    terms text[], prefixes text[], filters jsonb, among bigint[], hits_max integer, also bigint[] default '{}')
returns table (chunk_id bigint, score real, is_hit boolean)
language c stable parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'lexical_hits_wrapper';
comment on function salesai.lexical_hits(text[], text[], jsonb, bigint[], integer, bigint[]) is
    'The best chunks by BM25 that the caller may see and that pass the filters (salesai.chunk_condition); with among, only of those. also: chunks whose scores are wanted whether or not they are among the best; these come last, and is_hit is false';

create function salesai.chunks_having_all(terms text[], filters jsonb, chunks_max integer) returns bigint[]
language c stable strict parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'chunks_having_all_wrapper';
comment on function salesai.chunks_having_all(text[], jsonb, integer) is
    'Chunks that have all of these lexemes, that the caller may see and that pass the filters; NULL when more than chunks_max have them';

create function salesai.nearest_query(set_id bigint, exact boolean) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- The sum keeps the planner from the index, and the query is converted once.
    select format(case when exact
        then 'select e.chunk_id, (e.embedding operator(@extschema:vector@.<=>) (select $1::@extschema:vector@.%1$I)) + 0 as distance
              from salesai.%2$I e where e.chunk_id = any ($2) order by 2, 1 limit $3'
        else 'select e.chunk_id, e.embedding operator(@extschema:vector@.<=>) $1::@extschema:vector@.%1$I as distance
              from salesai.%2$I e order by e.embedding operator(@extschema:vector@.<=>) $1::@extschema:vector@.%1$I' end,
        s.element, 'embedding_' || s.id)
    from salesai.embedding_set s where s.id = set_id
$$;
comment on function salesai.nearest_query(bigint, boolean) is
    'The statement that finds the vectors of a set nearest to $1, among the chunks $2 ($3 of them) or by its index';

create function salesai.dense_hits(
    set_id bigint, embedding real[], filters jsonb, among bigint[], hits_max integer) returns table (chunk_id bigint, similarity real)
language c stable parallel unsafe
set search_path = pg_catalog, pg_temp
-- The index goes on until enough rows are found that the caller may see.
set hnsw.iterative_scan = 'strict_order'
set hnsw.max_scan_tuples = 2147483647
set hnsw.scan_mem_multiplier = 1000
set hnsw.ef_search = 400
-- The planner does not know that few rows of the cursor are read.
set enable_sort = off
as 'MODULE_PATHNAME', 'dense_hits_wrapper';
comment on function salesai.dense_hits(bigint, real[], jsonb, bigint[], integer) is
    'The chunks of an embedding set nearest to a vector by cosine, as salesai.lexical_hits; the set''s codes are scanned and the best compared as they are, or its HNSW index is followed, or with a short among all of those are compared';

-- Literals, so that the planner sees what is asked for.
create function salesai.chunk_condition(filters jsonb) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(nullif(concat_ws(' and ',
        'c.account_id = ' || (filters ->> 'account_id')::bigint,
        'c.opportunity_id = ' || (filters ->> 'opportunity_id')::bigint,
        'c.owner_rep_id = ' || (filters ->> 'rep_id')::bigint,
        'c.team_id = ' || (filters ->> 'team_id')::bigint,
        'c.kind = any (' || quote_literal(filters ->> 'kinds') || '::text[])',
        'c.occurred_at >= ' || quote_literal(filters ->> 'since') || '::timestamptz',
        'c.occurred_at < ' || quote_literal(filters ->> 'until') || '::timestamptz',
        'c.language = ' || quote_literal(filters ->> 'language'),
        'exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position
              and p.side = ' || quote_literal(filters ->> 'speaker_side') || ')',
        'exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
            where s.interaction_id = c.interaction_id and s.version = c.version
              and s.position between c.first_position and c.last_position
              and (lower(p.email) = lower(' || quote_literal(filters ->> 'speaker') || ')
                   or salesai.normalise_name(p.name) = salesai.normalise_name(' || quote_literal(filters ->> 'speaker') || ')))',
        'exists (select from salesai.interaction i where i.id = c.interaction_id
            and i.source = any (' || quote_literal(filters ->> 'sources') || '::text[]))',
        'exists (select from salesai.interaction i where i.id = c.interaction_id
            and i.properties @? ' || quote_literal(filters ->> 'properties') || '::jsonpath)',
        (select string_agg(format('c.lexemes @@ phraseto_tsquery(salesai.text_configuration(c.language), %L)', p), ' and ')
         from jsonb_array_elements_text(filters -> 'phrases') p
         -- One of stop words alone would fit nothing.
         where numnode(phraseto_tsquery('pg_catalog.english', p)) > 0),
        (select string_agg(format('not c.lexemes @@ phraseto_tsquery(salesai.text_configuration(c.language), %L)', e), ' and ')
         from jsonb_array_elements_text(filters -> 'excluded') e
         where numnode(phraseto_tsquery('pg_catalog.english', e)) > 0),
        -- What row-level security says again, in a form that an index can serve; of two that are joined by or none could.
        case when salesai.reads_all() then null
            when salesai.reader_team_ids() <> '{}' then format('(c.owner_rep_id = %L or c.team_id = any (%L::bigint[]))',
                salesai.reader_rep_id(), salesai.reader_team_ids())
            else format('c.owner_rep_id = %L', salesai.reader_rep_id()) end), ''), 'true')
$$;
comment on function salesai.chunk_condition(jsonb) is
    'The SQL condition on salesai.chunk c for filters: account_id, opportunity_id, rep_id, team_id, kinds, since, until, language, speaker, speaker_side, sources, properties (jsonpath), phrases, excluded';

create function salesai.wanted_chunks(filters jsonb, parsed jsonb) returns jsonb
language sql immutable strict parallel safe
as $$
    select filters || (select coalesce(jsonb_object_agg(p.key, p.value), '{}')
                       from jsonb_each(parsed) p where p.key in ('phrases', 'excluded') and p.value <> '[]')
$$;
comment on function salesai.wanted_chunks(jsonb, jsonb) is
    'Filters, and what a query (salesai.parse_query) demands besides: phrases and excluded words';

create function salesai.estimated_chunks(condition text) returns table (chunks double precision, cost double precision)
language c stable strict parallel unsafe rows 1
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'estimated_chunks_wrapper';
comment on function salesai.estimated_chunks(text) is 'How many chunks the planner thinks fulfil a condition, and what it thinks reading their ids costs';

-- Where few chunks qualify, knowing all of them is faster than passing by all others, and exact.
create function salesai.qualifying_chunks(condition text, filters jsonb, hits_max integer) returns bigint[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    all_chunks constant double precision := greatest((select c.reltuples from pg_class c where c.oid = 'salesai.chunk'::regclass), 1000);
    has_codes constant boolean := coalesce((select s.index_method = 'codes' from salesai.embedding_set s where s.state = 'active'), true);
    -- Microseconds, measured: a unit of the planner's cost; a chunk whose id is known; one that both legs pass by.
    cost_us constant double precision := 1.5;
    known_us constant double precision := case when has_codes then 0.5 else 10 end;
    passed_us constant double precision := case when has_codes then 10 else 60 end;
    expected record;
    at_most integer;
    phrase_terms text[];
    chunks bigint[];
begin
    if jsonb_array_length(filters -> 'phrases') > 0 then
        select array_agg(distinct t) into phrase_terms
        from jsonb_array_elements_text(filters -> 'phrases') p
        cross join lateral unnest(tsvector_to_array(to_tsvector('pg_catalog.english', p))) t
        where (select count(*) from salesai.lexical_language) <= 1
          and not exists (select from salesai.lexical_language l where l.configuration <> 'english');
        if phrase_terms is not null then
            chunks := salesai.chunks_having_all(phrase_terms, filters, greatest(4000, 4 * sqrt(5 * hits_max * all_chunks)::integer));
            if chunks is not null then
                return chunks;
            end if;
        end if;
    end if;
    if condition = 'true' then
        return null;
    end if;
    select e.chunks, e.cost into expected from salesai.estimated_chunks(condition) e;
    if expected.chunks > 1000
       and expected.cost * cost_us + expected.chunks * known_us > hits_max * all_chunks / expected.chunks * passed_us then
        return null;
    end if;
    -- The planner can be wrong.
    at_most := greatest(4000, 4 * expected.chunks);
    execute format('select array_agg(t.id) from (select c.id from salesai.chunk c where %s limit %s) t', condition, at_most + 1) into chunks;
    if cardinality(chunks) > at_most then
        return null;
    end if;
    return coalesce(chunks, '{}');
end
$$;
comment on function salesai.qualifying_chunks(text, jsonb, integer) is 'All chunks that fulfil a condition, where it takes less to know them than to pass by all others; else NULL';

create function salesai.named_period(query text, today date) returns table (since date, until date)
language c immutable strict parallel safe rows 1 as 'MODULE_PATHNAME', 'named_period_wrapper';
comment on function salesai.named_period(text, date) is
    'The first period that an English text names ("last quarter", "since March", "Q3 2026"), until excluded; no row where it names none. Weeks begin on Monday, quarters in January';

create function salesai.subject_of_discussion(query text) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'subject_of_discussion_wrapper';
comment on function salesai.subject_of_discussion(text) is
    'What an English query is about that asks what was said on a subject ("Summarize ...", "What did they think of ..."): without the words that only ask; NULL where it asks for a fact';

create function salesai.searched_words(query text, understand boolean) returns text
language sql immutable parallel safe
as $$
    select case when understand and parsed -> 'phrases' = '[]' and parsed -> 'prefixes' = '[]' and to_tsvector('pg_catalog.english', subject) <> ''
        then subject else parsed ->> 'text' end
    from salesai.parse_query(query) parsed, salesai.subject_of_discussion(parsed ->> 'text') subject
$$;
comment on function salesai.searched_words(text, boolean) is 'The words of a query that the lexical leg looks for: with understand without those that only ask for a discussion, where others are left and none is in quotes or has a star';

-- What a query names: accounts, opportunities, contacts and products, by their whole names, and a time.
create function salesai.mentioned(query text)
returns table (account_ids bigint[], opportunity_ids bigint[], products text[], since timestamptz, until timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with word as (
        select w.word, w.number
        from regexp_split_to_table(lower(query), '[^[:alnum:]&.''-]+') with ordinality w (word, number) where w.word <> ''),
    phrase as (
        select string_agg(o.word, ' ' order by o.number) as name
        from word f
        cross join generate_series(0, 4) more
        join word o on o.number between f.number and f.number + more
        group by f.number, more),
    named as (select distinct btrim(p.name, '.''-') as name from phrase p where length(p.name) > 2)
    select
        array(select a.id from named n join salesai.account a on a.name_key = n.name where a.deleted_at is null
              union
              select c.account_id from named n join salesai.contact c on c.name_key = n.name
              where c.deleted_at is null and c.account_id is not null),
        array(select o.id from named n join salesai.opportunity o on o.name_key = n.name where o.deleted_at is null),
        array(select distinct p.name from named n join salesai.product p on p.name_key = n.name where p.deleted_at is null order by 1),
        period.since, period.until
    from (select) one
    left join salesai.named_period(query, current_date) period on true
$$;
comment on function salesai.mentioned(text) is
    'What a query names: accounts and opportunities, or contacts of them, by their ids, products by their names, and a time (NULL where it is open or none is named; days are those of the session''s time zone)';

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
