//! What the documents show is what the product does.

use tests::world;

const README: &str = include_str!("../README.md");

/// Goal: every SQL statement of the README runs on the deal room and returns rows.
#[test]
fn readme_sql_runs() {
    let mut session = world::shared().connect();
    let statements: Vec<&str> = README
        .split("```sql\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .flat_map(|block| block.split(";\n"))
        .filter(|statement| !statement.trim().is_empty())
        .collect();
    assert!(statements.len() >= 3, "the README shows some SQL");
    for statement in statements {
        assert!(!session.rows(statement, &[]).is_empty(), "{statement}");
    }
}
