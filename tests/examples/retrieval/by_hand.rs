//! The search that a careful user would write: pgvector and `ts_rank_cd`, the words joined by or, fused by rank.

/// Takes the question and its vector; gives `id`, `interaction_id`, `content` and `score` of so many chunks, best first.
pub fn query(chunks: u32) -> String {
    format!(
        "with dense as (
             select d.chunk_id, row_number() over (order by d.distance) as rank
             from (select e.chunk_id, e.embedding <=> $2::real[]::vector as distance from salesai.embedding_1 e
                   order by e.embedding <=> $2::real[]::vector limit 60) d),
         lexical as (
             select l.id as chunk_id, row_number() over (order by l.rank desc) as rank
             from (select c.id, ts_rank_cd(c.lexemes, q) as rank
                   from salesai.chunk c,
                        cast(coalesce((select string_agg(quote_literal(t), ' | ')
                                       from unnest(tsvector_to_array(to_tsvector('english', $1))) t), '') as tsquery) q
                   where c.lexemes @@ q order by rank desc limit 60) l)
         select c.id, c.interaction_id, c.content, coalesce(1.0 / (60 + d.rank), 0) + coalesce(1.0 / (60 + l.rank), 0) as score
         from dense d full join lexical l using (chunk_id) join salesai.chunk c on c.id = chunk_id
         order by score desc limit {chunks}"
    )
}
