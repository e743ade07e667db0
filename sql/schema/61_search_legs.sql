-- What both legs of search are made of: the query's words, names and times, the filters, and the candidates of each leg.

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
