-- Semantic operators: what a model says of documents, as values. Scalar forms ask once for each call; array forms, and
-- salesai.apply_operator as a set, ask about all documents together. Volatile, because a stable function with constant
-- arguments is also evaluated to plan a query, and one below a subquery once for each time that its column is named.

create function salesai.operator_options(
    model text default null, adapter text default null, timeout_ms integer default null, on_error text default null,
    max_error_ratio double precision default null, prompt_version integer default null) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object('model', model, 'adapter', adapter, 'timeout_ms', timeout_ms,
        'on_error', on_error, 'max_error_ratio', max_error_ratio, 'prompt_version', prompt_version))
$$;
comment on function salesai.operator_options(text, text, integer, text, double precision, integer) is
    'Options of salesai.apply_operator. model, adapter: NULL for the default model; timeout_ms: for all documents together, NULL for salesai.timeout_ms; on_error: null (default: a document that fails has NULL and is counted, a call with several warns how many), detail (warnings name them) or error (the call fails); max_error_ratio: a call of which more fails, fails (NULL: 1); prompt_version: of the operator''s prompt template, NULL for the active one';

create function salesai.apply_operator(
    operator text, documents text[], arguments jsonb default '{}', options jsonb default '{}')
returns table (number integer, value jsonb, error text)
language c volatile parallel unsafe cost 1000000 rows 100 as 'MODULE_PATHNAME', 'apply_operator_wrapper';
comment on function salesai.apply_operator(text, text[], jsonb, jsonb) is
    'Applies classify {labels}, sentiment, is_true {statement}, extract {fields}, summarize or generate {instruction} to documents: a row for each, numbered from 1, with a value or an error. All are asked about together, equal ones once; NULL and blank ones have NULL. options: salesai.operator_options';

create function salesai.operator_progress()
returns table (pid integer, operator text, started_at timestamptz, texts bigint, done bigint, done_before bigint)
language c volatile parallel restricted rows 5 as 'MODULE_PATHNAME', 'operator_progress_wrapper';
comment on function salesai.operator_progress() is
    'Sessions of this database that ask a model about many texts now, of roles that the caller belongs to (pg_read_all_stats: of all): texts of the present call, equal ones once, and how many are answered or failed; done_before: those of earlier calls of the same statement, which may ask about its rows in several batches. Empty where the library is not preloaded';

create function salesai.operator_statistics()
returns table (operator text, calls bigint, documents bigint, failures bigint, generations bigint, remembered bigint, shortened bigint,
    prompt_tokens bigint, completion_tokens bigint, last_error text)
language c volatile parallel restricted rows 5 as 'MODULE_PATHNAME', 'operator_statistics_wrapper';
comment on function salesai.operator_statistics() is
    'What semantic operators did in this session: calls, documents, those that failed, and what the model generated for them (remembered: results of earlier calls that were used again; shortened: texts that reached the most tokens and were cut back to a whole sentence)';

create function salesai.operator_value(operator text, document text, arguments jsonb, options jsonb) returns jsonb
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$ select a.value from salesai.apply_operator(operator, array[document], arguments, options) a $$;
comment on function salesai.operator_value(text, text, jsonb, jsonb) is 'salesai.apply_operator for one document';

create function salesai.classify(
    document text, labels text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('classify', document, jsonb_build_object('labels', labels),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.classify(text, text[], text, text, text, integer) is
    'The label that fits a document best, by the language model: always one of the labels, or NULL for an error (salesai.operator_options)';

create function salesai.classify(
    documents text[], labels text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('classify', documents, jsonb_build_object('labels', labels),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.classify(text[], text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.sentiment(
    document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('sentiment', document, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.sentiment(text, text, text, text, integer) is 'Whether a document is positive, neutral, negative or mixed, as salesai.classify';

create function salesai.sentiment(
    documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('sentiment', documents, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.sentiment(text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.is_true(
    statement text, document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns boolean
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('is_true', document, jsonb_build_object('statement', statement),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, '')))::boolean
$$;
comment on function salesai.is_true(text, text, text, text, text, integer) is
    'Whether a statement holds for a document, by the language model; NULL where the document does not say, or for an error (salesai.operator_options)';

create function salesai.is_true(
    statement text, documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns boolean[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value::boolean order by a.number), '{}') end
    from salesai.apply_operator('is_true', documents, jsonb_build_object('statement', statement),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.is_true(text, text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.extract(
    document text, fields text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns jsonb
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('extract', document, jsonb_build_object('fields', fields),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, '')))
$$;
comment on function salesai.extract(text, text[], text, text, text, integer) is
    'Fields of a document as JSON, by the language model, each null where the document does not say. A field is "name", "name: type" or "name: type - description"; types: text, number, integer, boolean, date, or a list of one, as text[]. NULL for an error (salesai.operator_options)';

create function salesai.extract(
    documents text[], fields text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns jsonb[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value order by a.number), '{}') end
    from salesai.apply_operator('extract', documents, jsonb_build_object('fields', fields),
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.extract(text[], text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar';

create function salesai.summarize(
    document text, model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('summarize', document, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''))) #>> '{}'
$$;
comment on function salesai.summarize(text, text, text, text, integer) is
    'A document in at most about three sentences, by the language model. One that is longer than the model''s window is summarised a piece at a time, and the summaries once more. NULL for an error (salesai.operator_options)';

create function salesai.summarize(
    documents text[], model text default null, adapter text default null, on_error text default 'null',
    timeout_ms integer default null, max_error_ratio double precision default 0.5) returns text[]
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select case when documents is not null then coalesce(array_agg(a.value #>> '{}' order by a.number), '{}') end
    from salesai.apply_operator('summarize', documents, '{}',
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) a
$$;
comment on function salesai.summarize(text[], text, text, text, integer, double precision) is
    'The same for many documents, in order, in one call to the sidecar for each round of pieces';

create function salesai.summarize_texts(contents text[]) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$ select salesai.summarize(array_to_string(contents, e'\n\n'), on_error => 'error') $$;
comment on function salesai.summarize_texts(text[]) is 'Ends salesai.summarize_agg';

create aggregate salesai.summarize_agg(content text) (
    sfunc = pg_catalog.array_append, stype = text[], finalfunc = salesai.summarize_texts);
comment on aggregate salesai.summarize_agg(text) is
    'One summary of many texts, in their order (order by), by the language model; not bound by its window. Fails where the model does';

create function salesai.append_text(state text[], content text, instruction text) returns text[]
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select array_append(coalesce(state, array[instruction]), content) $$;
comment on function salesai.append_text(text[], text, text) is 'A step of salesai.agg: the instruction, then the texts';

create function salesai.agg_texts(state text[]) returns text
language sql volatile parallel unsafe cost 1000000
set search_path = pg_catalog, pg_temp
as $$
    select salesai.operator_value('agg', array_to_string(state[2:], e'\n\n'), jsonb_build_object('instruction', state[1]),
        salesai.operator_options(on_error => 'error')) #>> '{}'
    where state is not null
$$;
comment on function salesai.agg_texts(text[]) is 'Ends salesai.agg';

create aggregate salesai.agg(content text, instruction text) (
    sfunc = salesai.append_text, stype = text[], finalfunc = salesai.agg_texts);
comment on aggregate salesai.agg(text, text) is
    'What an instruction (that of the first row) makes of many texts, in their order (order by), by the language model; not bound by its window: what does not fit is worked on a piece at a time, and the results once more. Fails where the model does';

create function salesai.apply_cascade(
    operator text, documents text[], arguments jsonb, precision_min double precision default 0.95,
    recall_min double precision default 0.95, confidence double precision default 0.95, seed bigint default 0,
    options jsonb default '{}')
returns table (number integer, value jsonb, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real)
language c volatile parallel unsafe cost 1000000 rows 1000 as 'MODULE_PATHNAME', 'apply_cascade_wrapper';
comment on function salesai.apply_cascade(text, text[], jsonb, double precision, double precision, double precision, bigint, jsonb) is
    'salesai.apply_operator for classify and is_true over many documents: the model (the oracle) judges a random sample and then what a classifier over words, and embeddings where they help, is least sure of; the classifier decides where another random sample says that it may, the model judges the rest. With the confidence, over samples, precision and recall relative to the model''s own answers are at least precision_min and recall_min: of true for is_true; for classify of all labels together (micro-averaged), so both are the share of documents that have the model''s label. Where that needs it, or below 600 documents, the model judges all. decided_by: model or head; the columns after it are the same in all rows: the share that the model judged, and what was reached, as an estimate and as the bound that holds with the confidence. seed: of the samples';

create function salesai.classify_cascade(
    documents text[], labels text[], precision_min double precision default 0.95, recall_min double precision default 0.95,
    confidence double precision default 0.95, people text[] default null, seed bigint default 0, model text default null,
    adapter text default null, on_error text default 'null', timeout_ms integer default null,
    max_error_ratio double precision default 0.5)
returns table (number integer, label text, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real, people_agreement real)
language sql volatile parallel unsafe cost 1000000 rows 1000
set search_path = pg_catalog, pg_temp
as $$
    select c.number, c.value #>> '{}', c.error, c.decided_by, c.model_share, c.precision_estimate, c.precision_bound,
        c.recall_estimate, c.recall_bound,
        (avg(case when people[c.number] is not null then (people[c.number] = c.value #>> '{}' is true)::integer end) over ())::real
    from salesai.apply_cascade('classify', documents, jsonb_build_object('labels', labels), precision_min, recall_min, confidence, seed,
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) c
$$;
comment on function salesai.classify_cascade(text[], text[], double precision, double precision, double precision, text[], bigint, text, text, text, integer, double precision) is
    'salesai.classify for many documents, most of which a small classifier decides, at a precision and recall relative to the model (salesai.apply_cascade). people: labels that people gave, NULL where nobody did; people_agreement: the share of those that the result has too';

create function salesai.is_true_cascade(
    statement text, documents text[], precision_min double precision default 0.95, recall_min double precision default 0.95,
    confidence double precision default 0.95, people boolean[] default null, seed bigint default 0, model text default null,
    adapter text default null, on_error text default 'null', timeout_ms integer default null,
    max_error_ratio double precision default 0.5)
returns table (number integer, is_true boolean, error text, decided_by text, model_share real, precision_estimate real,
    precision_bound real, recall_estimate real, recall_bound real, people_agreement real)
language sql volatile parallel unsafe cost 1000000 rows 1000
set search_path = pg_catalog, pg_temp
as $$
    select c.number, c.value::boolean, c.error, c.decided_by, c.model_share, c.precision_estimate, c.precision_bound,
        c.recall_estimate, c.recall_bound,
        (avg(case when people[c.number] is not null then (people[c.number] = (c.value::boolean is true))::integer end) over ())::real
    from salesai.apply_cascade('is_true', documents, jsonb_build_object('statement', statement), precision_min, recall_min, confidence, seed,
        salesai.operator_options(model, adapter, timeout_ms, coalesce(on_error, ''), max_error_ratio)) c
$$;
comment on function salesai.is_true_cascade(text, text[], double precision, double precision, double precision, boolean[], bigint, text, text, text, integer, double precision) is
    'salesai.is_true for many documents, most of which a small classifier decides, at a precision and recall of true relative to the model (salesai.apply_cascade). people: what people said, NULL where nobody did; people_agreement: the share of those that the result has too, NULL in the result counted as not true';

create function salesai.similarity(a text, b text) returns real
language sql stable strict parallel restricted cost 100000
set search_path = pg_catalog, pg_temp
as $$
    with e as materialized (select salesai.embed(array[a, b]) as v)
    select (1 - (e.v[1] operator(@extschema:vector@.<=>) e.v[2]))::real from e
$$;
comment on function salesai.similarity(text, text) is 'Cosine of the embeddings of two texts, by the default embedding model';

create function salesai.similarity(query text, documents text[]) returns real[]
language sql stable strict parallel restricted cost 100000
set search_path = pg_catalog, pg_temp
as $$
    with e as materialized (select salesai.embed(query || documents) as v)
    select array(select (1 - (e.v[1] operator(@extschema:vector@.<=>) d.v))::real
                 from unnest(e.v[2:]) with ordinality d (v, place) order by d.place)
    from e
$$;
comment on function salesai.similarity(text, text[]) is 'The same for many documents, in order, in one call to the sidecar';

create function salesai.query_similarities(query text, documents text[], timeout_ms integer default null) returns real[]
language c stable parallel restricted cost 100000 as 'MODULE_PATHNAME', 'query_similarities_wrapper';
comment on function salesai.query_similarities(text, text[], integer) is
    'How near each document is to a query by the default embedding model: cosines in order. The query is embedded as one and the documents as passages, which some models tell apart';

create function salesai.rank(
    query text, documents text[], ids bigint[] default null, model text default null, timeout_ms integer default null)
returns table (id bigint, rank bigint, score real)
language plpgsql stable parallel restricted cost 100000 rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    scores real[];
begin
    if ids is not null and (cardinality(ids) is distinct from cardinality(documents) or array_position(ids, null) is not null) then
        raise exception 'ids must be as many as documents, and not NULL' using errcode = '22023';
    end if;
    if model is not null or exists (
        select from jsonb_array_elements(salesai.sidecar_state() -> 'models') m where m ->> 'kind' = 'reranking')
    then
        scores := salesai.rerank(query, documents, model, timeout_ms);
    else
        scores := salesai.query_similarities(query, documents, timeout_ms);
    end if;
    return query
        select coalesce(i.id, s.place), row_number() over (order by s.score desc, s.place), s.score
        from unnest(scores) with ordinality s (score, place)
        left join unnest(ids) with ordinality i (id, place) on i.place = s.place
        order by 2;
end
$$;
comment on function salesai.rank(text, text[], bigint[], text, integer) is
    'Documents in the order in which they fit a query, best first, by their ids (NULL: their places from 1). score: a logit of the reranking model, or where the sidecar serves none the cosine of embeddings';
