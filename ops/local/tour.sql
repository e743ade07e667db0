-- The tour of `make demo`. Each stop is a heading and a query that you can paste into `make psql`.
\pset linestyle unicode
\pset border 2
\pset footer off
\pset pager off

\echo
\echo '1. Ingest: what arrived'
select kind, count(*), min(occurred_at)::date as first, max(occurred_at)::date as last
from salesai.interaction
group by kind
order by kind;

\echo '2. Queue: everything is processed'
select * from salesai.queue_status;

\echo '3. Hybrid search: by meaning (dense) and by words (lexical), fused by rank'
select interaction_id, speaker, start_ms, left(content, 80) as content, dense_rank, lexical_rank, round(score::numeric, 4) as score
from salesai.search('pushback on price and budget', k => 5);

\echo '4. Insight: an answer with its evidence'
create temporary table tour_insight as
select * from salesai.insight('Why is the Halden Freight deal stuck?', account => 'Halden Freight');
\x on
select answer, confidence, abstained, reason, model, prompt_tokens, completion_tokens, elapsed_ms from tour_insight;
\x off
\echo '   Citations'
select citation.* from tour_insight, unnest(citations) as citation;

\echo '5. Metrics: a view for your BI tool'
select * from salesai.call_metrics limit 5;

\echo '6. Doctor: is anything missing or broken?'
select * from salesai.doctor();
