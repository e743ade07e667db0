-- Conversation metrics: deterministic SQL over segments, no model. Each formula stands in the view's comment.

create function salesai.word_count(content text) returns integer
language sql immutable strict parallel safe
as $$ select pg_catalog.regexp_count(content, '[[:alnum:]]+([''’.-][[:alnum:]]+)*') $$;
comment on function salesai.word_count(text) is 'Words of a text: runs of letters and digits, inner apostrophes, points and hyphens included';

create function salesai.is_backchannel(content text) returns boolean
language sql immutable strict parallel safe
as $$
    select salesai.word_count(content) <= 5
       and 2 * pg_catalog.regexp_count(pg_catalog.lower(content),
           '\m(mm-?hm+|mhm+|mm+|uh-?huh|hm+|yeah|yep|yes|right|ok|okay|sure|exactly|absolutely|totally|cool|great|nice|wow|oh|ah|gotcha|got it|i see|true|indeed|agreed)\M')
           >= salesai.word_count(content)
$$;
comment on function salesai.is_backchannel(text) is 'True for acknowledgements ("Mm-hm.", "Yeah, right."): at most 5 words, at least half of them acknowledging';

create function salesai.filler_count(content text) returns integer
language sql immutable strict parallel safe
as $$ select pg_catalog.regexp_count(pg_catalog.lower(content), '\m(um+|uh+|erm*|you know|i mean|sort of|kind of|basically)\M') $$;
comment on function salesai.filler_count(text) is 'Filler words: um, uh, er, erm, you know, i mean, sort of, kind of, basically';

create view salesai.call_metrics with (security_invoker) as
select i.id as interaction_id, i.account_id, i.opportunity_id, i.owner_rep_id, i.occurred_at, i.subject,
    round(m.call_ms / 1000.0, 1) as duration_s,
    m.speaker_count,
    m.turn_count,
    round(m.internal_ms / nullif(m.internal_ms + m.external_ms, 0), 3) as talk_share_of_speech,
    round(m.internal_ms / nullif(m.call_ms, 0), 3) as talk_share_of_call,
    round(1 - m.covered_ms / nullif(m.call_ms, 0), 3) as silence_share,
    round(m.longest_silence_ms / 1000.0, 1) as longest_silence_s,
    round(m.longest_monologue_ms / 1000.0, 1) as longest_monologue_s,
    round(m.longest_customer_story_ms / 1000.0, 1) as longest_customer_story_s,
    round(m.switch_count * 60000 / nullif(m.call_ms, 0), 2) as switches_per_min,
    round((m.patience_median_ms / 1000.0)::numeric, 2) as patience_median_s,
    round((m.patience_p90_ms / 1000.0)::numeric, 2) as patience_p90_s,
    m.question_count,
    round(m.question_count * 1800000 / nullif(m.call_ms, 0), 1) as questions_per_30_min,
    round(m.overtalk_ms / 1000.0, 1) as overtalk_s,
    m.overtalk_count,
    round(m.internal_words * 60000 / nullif(m.internal_ms, 0), 0) as words_per_minute,
    m.filler_words
from salesai.interaction i
cross join lateral (
    with said as (
        select s.position, s.turn, s.participant_id, coalesce(p.side, 'unknown') as side,
            s.start_ms, s.end_ms, s.content, salesai.is_backchannel(s.content) as is_backchannel,
            max(s.end_ms) over (order by s.start_ms, s.position rows between unbounded preceding and 1 preceding) as covered_until
        from salesai.segment s
        left join salesai.participant p on p.id = s.participant_id
        where s.interaction_id = i.id and s.version = i.version and s.start_ms is not null and s.end_ms is not null
    ), spoken as (
        select *, lag(participant_id) over w as previous_id, lag(side) over w as previous_side, lag(end_ms) over w as previous_end_ms
        from said where not is_backchannel
        window w as (order by start_ms, position)
    ), numbered as (
        select *, count(*) filter (where previous_end_ms is null or participant_id is distinct from previous_id
                                   or start_ms - previous_end_ms > 10000) over (order by start_ms, position) as run
        from spoken
    ), runs as (
        select side, max(end_ms) - min(start_ms) as run_ms from numbered group by run, side
    ), speech as (
        select (max(end_ms) - min(start_ms))::numeric as call_ms,
            count(distinct participant_id) as speaker_count,
            count(distinct turn) as turn_count,
            sum(end_ms - start_ms) filter (where side = 'internal') as internal_ms,
            sum(end_ms - start_ms) filter (where side = 'external') as external_ms,
            sum(greatest(end_ms - greatest(start_ms, coalesce(covered_until, start_ms)), 0)) as covered_ms,
            greatest(max(start_ms - covered_until), 0) as longest_silence_ms,
            sum(regexp_count(content, '\?')) filter (where side = 'internal') as question_count,
            sum(salesai.word_count(content)) filter (where side = 'internal')::numeric as internal_words,
            sum(salesai.filler_count(content)) filter (where side = 'internal') as filler_words
        from said
    ), exchanges as (
        select count(*) filter (where participant_id is distinct from previous_id and previous_end_ms is not null)::numeric as switch_count,
            percentile_cont(0.5) within group (order by greatest(start_ms - previous_end_ms, 0))
                filter (where side = 'internal' and previous_side = 'external') as patience_median_ms,
            percentile_cont(0.9) within group (order by greatest(start_ms - previous_end_ms, 0))
                filter (where side = 'internal' and previous_side = 'external') as patience_p90_ms,
            coalesce(sum(least(end_ms, previous_end_ms) - start_ms) filter (where participant_id is distinct from previous_id and start_ms < previous_end_ms), 0) as overtalk_ms,
            count(*) filter (where participant_id is distinct from previous_id and start_ms < previous_end_ms) as overtalk_count
        from spoken
    ), longest as (
        select max(run_ms) filter (where side = 'internal') as longest_monologue_ms,
            max(run_ms) filter (where side = 'external') as longest_customer_story_ms
        from runs
    )
    select * from speech, exchanges, longest
) m
where i.kind in ('call', 'meeting') and m.call_ms is not null;
comment on view salesai.call_metrics is
'One row per call with times. Internal = our side. Speech = sum of utterance lengths; call = first start to last end.
talk_share_of_speech: internal speech / (internal + external speech). talk_share_of_call: internal speech / call.
silence_share: part of the call that no utterance covers; longest_silence_s: its longest stretch.
longest_monologue_s, longest_customer_story_s: longest run of one speaker of the internal, external side; runs go on across back-channels of others (salesai.is_backchannel) and end at another speaker or a gap above 10 s.
switches_per_min: changes of speaker, back-channels ignored, per minute of call.
patience: gap from the end of an external utterance to the internal one that follows (0 when they overlap), back-channels ignored; median and 90th percentile.
question_count: question marks of the internal side. overtalk: time and number of utterances that begin before the one of another speaker has ended, back-channels ignored.
words_per_minute, filler_words: of the internal side, by salesai.word_count and salesai.filler_count.
Measures that need a side are NULL when nobody of that side is known.';
