//! interim
use crate::models::Adapter;
use std::sync::Arc;
pub struct LoadedAdapter {
    pub name: String,
    pub generation: u64,
    pub adapter: Arc<Adapter>,
}
