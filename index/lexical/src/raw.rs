//! What benches compare with: the same terms in the same index, ranked by tantivy itself.

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, Term};

use crate::error::fault;
use crate::plan::Analysed;
use crate::{BagQuery, LexicalError, LexicalSearcher};

impl LexicalSearcher {
    /// The words of `query` as an OR of tantivy's own term queries, ranked by its own BM25.
    #[doc(hidden)]
    pub fn raw_tantivy(
        &self,
        query: &BagQuery,
        limit: usize,
    ) -> Result<Vec<(f32, DocAddress)>, LexicalError> {
        let snapshot = &*self.snapshot;
        let mut terms: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for word in Analysed::new(query).words {
            for (field, form) in snapshot.fields.bodies.into_iter().zip(word.forms) {
                let Some(form) = form else { continue };
                let term = TermQuery::new(Term::from_field_text(field, &form), IndexRecordOption::WithFreqs);
                terms.push((Occur::Should, Box::new(term)));
            }
        }
        let collector = TopDocs::with_limit(limit).order_by_score();
        snapshot
            .searcher
            .search(&BooleanQuery::new(terms), &collector)
            .map_err(|error| fault(&snapshot.dir, &error))
    }
}
