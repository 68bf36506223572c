//! The gate that every shown ad has passed.

use bowerbird_auction::Probability;
use bowerbird_models_api::RerankLogit;

use crate::Gate;

/// How well an ad fits a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Relevance {
    /// Log-odds that it fits.
    pub log_odds: f64,
    /// The same within 0 to 1.
    pub score: Probability,
}

impl Gate {
    /// The relevance of an ad with cross-encoder `logit` and embedding `cosine`, both finite.
    pub(crate) fn relevance(&self, logit: RerankLogit, cosine: f32) -> Relevance {
        let log_odds = self.log_odds(logit, cosine);
        // Finite inputs and bounded weights give a finite sum; a stranger one counts as certainly irrelevant.
        let score = Probability::from_log_odds(log_odds).unwrap_or(Probability::ZERO);
        Relevance { log_odds, score }
    }

    /// Log-odds of the relevance.
    pub fn log_odds(&self, logit: RerankLogit, cosine: f32) -> f64 {
        self.bias + self.logit_weight * f64::from(logit.get()) + self.cosine_weight * f64::from(cosine)
    }

    /// The least relevance an ad needs.
    pub(crate) fn threshold_for(&self, exact_keyword: bool) -> f64 {
        if exact_keyword { self.exact_threshold.min(self.threshold) } else { self.threshold }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(logit: f32, cosine: f32) -> f64 {
        Gate::default().relevance(RerankLogit::new(logit).expect("finite"), cosine).score.get()
    }

    /// Pairs measured with the real models over the demo ads.
    #[test]
    fn the_blend_keeps_paraphrases_and_drops_strangers() {
        let gate = Gate::default();
        assert!(score(5.2, 0.783) > 0.99, "jogging shoes for running shoes");
        assert!(
            score(-9.62, 0.704) > gate.threshold,
            "aching spine at the office for desk yoga: a paraphrase"
        );
        assert!(score(-8.39, 0.585) > gate.threshold, "cannot nod off for an evening routine");
        assert!(score(-11.31, 0.509) < 0.2, "soda ban for green juice");
        assert!(score(-10.77, 0.578) < gate.exact_threshold, "waiting times for lunch boxes");
    }

    #[test]
    fn an_exact_keyword_never_raises_the_bar() {
        let gate = Gate { exact_threshold: 0.9, ..Gate::default() };
        assert!(gate.threshold_for(true) <= gate.threshold_for(false));
    }
}
