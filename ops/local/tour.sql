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
select * from salesai.insight('What is Briarwood''s procurement still complaining about in our order form?', account => 'Briarwood Mutual');
\x on
select answer, method, confidence, model, prompt_tokens, completion_tokens, elapsed_ms from tour_insight;
\x off
\echo '   Citations'
select c.number, i.kind, i.occurred_at::date as date, c.speaker, c.start_char, c.end_char, left(c.quote, 90) as quote
from tour_insight, unnest(citations) as c join salesai.interaction i on i.id = c.interaction_id
order by c.number;

\echo '5. Metrics: a view for your BI tool'
select subject, duration_s, talk_share_of_speech as talk_share, longest_monologue_s, patience_median_s, question_count, words_per_minute
from salesai.call_metrics order by occurred_at limit 5;

\echo '6. Doctor: is anything missing or broken?'
select piece, ok, state from salesai.doctor();
