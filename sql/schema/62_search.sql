-- Hybrid search: a dense and a lexical leg with the same filters and row-level security, fused by rank.

create function salesai.lexical_query(query text) returns tsquery
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- Any word may match; ranking sorts out how many did. Built from lexemes, so no text is a syntax error.
    select coalesce(string_agg(quote_literal(lexeme), ' | '), '')::tsquery
    from unnest(tsvector_to_array(to_tsvector('pg_catalog.english', query))) lexeme
$$;
comment on function salesai.lexical_query(text) is 'tsquery that matches any word of a text; never a syntax error';

create function salesai.search(
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
