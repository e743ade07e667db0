-- Summaries: which utterances say what an interaction is about.

create table salesai.interaction_summary (
    interaction_id bigint primary key references salesai.interaction on delete cascade,
    version integer not null,
    segment_ids bigint[] not null,
    made_at timestamptz not null default now()
);
comment on table salesai.interaction_summary is
    'The utterances that say what an interaction is about (salesai.key_segments), for questions that many interactions match. It holds no text: what they say is read from the segments, as they are then';
comment on column salesai.interaction_summary.version is 'The version of the interaction that the segments are of';

create function salesai.key_segments(contents text[]) returns integer[]
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'key_segments_wrapper';
comment on function salesai.key_segments(text[]) is
    'Places, from 1, of up to three texts that say what all of them are about, by how often their words come';

create function salesai.store_summary(interaction_id bigint, version integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.interaction_summary (interaction_id, version, segment_ids)
    select $1, $2, array(select said.ids[k.place] from unnest(salesai.key_segments(said.contents)) k (place))
    from (select array_agg(s.id order by s.position) as ids, array_agg(s.content order by s.position) as contents
          -- Of a book the beginning: its words are counted while the job holds its locks.
          from (select * from salesai.segment s
                where s.interaction_id = $1 and s.version = $2 and s.part = 'body' order by s.position limit 2000) s) said
    where said.ids is not null
    on conflict (interaction_id) do update
    set version = excluded.version, segment_ids = excluded.segment_ids, made_at = excluded.made_at
$$;
comment on function salesai.store_summary(bigint, integer) is 'Makes the summary of an interaction anew; a worker does it whenever it indexes one';
