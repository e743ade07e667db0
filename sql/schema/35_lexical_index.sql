-- The lexical index: posting lists in segments that never change, and the chunks that are in none yet. Workers make
-- segments of those, and few segments of many. Rows are derived from salesai.chunk alone: a restore makes them anew.

create table salesai.lexical_index (
    only_row boolean primary key default true check (only_row),
    heading_boost real not null default 1 check (heading_boost between 0 and 20),
    speaker_boost real not null default 1 check (speaker_boost between 0 and 20)
);
comment on table salesai.lexical_index is
    'What a word counts in a heading (kind, account, opportunity, subject, section) and in a speaker''s name, where one in the content counts 1; changed by salesai.rebuild_lexical_index';
insert into salesai.lexical_index default values;

create table salesai.lexical_segment (
    id bigint generated always as identity primary key,
    chunk_count bigint not null,
    -- Sum of their lengths in words.
    length bigint not null,
    first_chunk_id bigint not null,
    last_chunk_id bigint not null,
    created_at timestamptz not null default now()
);
comment on table salesai.lexical_segment is 'A part of the lexical index: the posting lists of some chunks';

create table salesai.posting_list (
    segment_id bigint not null,
    term text collate "C" not null,
    chunk_count integer not null,
    directory bytea not null,
    postings bytea not null,
    primary key (segment_id, term)
);
-- So that a part of a list can be read alone.
alter table salesai.posting_list alter column directory set storage external, alter column postings set storage external;
comment on table salesai.posting_list is
    'Which chunks of a segment have a term, how often, and how long they are (domain/src/lexical/posting_list.rs); directory: what each block of 128 of them holds at most';

create table salesai.lexical_delta (chunk_id bigint primary key);
comment on table salesai.lexical_delta is 'Chunks that are in no segment yet; search reads each of them';

create table salesai.lexical_language (configuration text primary key);
comment on table salesai.lexical_language is 'Text search configurations that chunks are stemmed by, and so queries too';

-- Owner rights: whoever writes chunks has them indexed.
create function salesai.note_new_chunks() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into salesai.lexical_delta (chunk_id) select n.id from new_chunks n on conflict do nothing;
    insert into salesai.lexical_language (configuration)
    select distinct salesai.text_configuration(n.language)::text from new_chunks n
    where not exists (
        select from salesai.lexical_language l where l.configuration = salesai.text_configuration(n.language)::text)
    on conflict do nothing;
    return null;
end
$$;
comment on function salesai.note_new_chunks() is 'Trigger: queues new chunks for the lexical index';

create trigger note_new_chunks after insert on salesai.chunk
    referencing new table as new_chunks for each statement execute function salesai.note_new_chunks();

-- One step; false when there is nothing to do, or somebody else is at it.
create function salesai.merge_lexical_delta(chunks_min integer default 256) returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_lexical_delta_wrapper';
comment on function salesai.merge_lexical_delta(integer) is
    'Makes a segment of up to 4,096 chunks that are in none, if there are at least so many; false when there are not';

create function salesai.merge_lexical_segments() returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_lexical_segments_wrapper';
comment on function salesai.merge_lexical_segments() is
    'Makes one segment of several of about the same size, without chunks that are gone; false when there are too few of any size';

create function salesai.empty_lexical_index() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    chunks bigint;
begin
    delete from salesai.posting_list;
    delete from salesai.lexical_segment;
    insert into salesai.lexical_delta (chunk_id) select c.id from salesai.chunk c on conflict do nothing;
    get diagnostics chunks = row_count;
    perform salesai.wake_worker();
    return chunks;
end
$$;
comment on function salesai.empty_lexical_index() is
    'Empties the lexical index, whose row the caller has locked, and queues all chunks for it; returns how many were not queued yet';

create function salesai.rebuild_lexical_index(heading_boost real default null, speaker_boost real default null) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the lexical index can be rebuilt at isolation level read committed only' using errcode = '25001',
            hint = 'Segments that were made while this waited for its lock have to be seen.';
    end if;
    -- Nobody merges until this commits.
    perform from salesai.lexical_index for update;
    update salesai.lexical_index i
    set heading_boost = coalesce($1, i.heading_boost), speaker_boost = coalesce($2, i.speaker_boost);
    return salesai.empty_lexical_index();
end
$$;
comment on function salesai.rebuild_lexical_index(real, real) is
    'Makes the lexical index anew, with other boosts or after damage. Search is right meanwhile, and slower. Returns how many chunks';

create function salesai.restore_boosts() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nobody merges until this commits.
    perform from salesai.lexical_index for update;
    update salesai.lexical_index i set heading_boost = new.heading_boost, speaker_boost = new.speaker_boost;
    if not found then
        return new;
    end if;
    perform salesai.empty_lexical_index();
    return null;
end
$$;
comment on function salesai.restore_boosts() is 'Trigger: takes the boosts of a dump, whose row this table has already';

create trigger restore_boosts before insert on salesai.lexical_index
    for each row execute function salesai.restore_boosts();
alter table salesai.lexical_index enable always trigger restore_boosts;
