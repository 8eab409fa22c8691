//! Beam search of one sequence: which hypotheses continue, and which have ended.

use super::{BeamConfig, Hypothesis};
use crate::generation::logits::{Logits, log_softmax};

/// A hypothesis that continues.
pub(super) struct Live {
    pub(super) tokens: Vec<u32>,
    log_prob: f64,
    /// Its row in the decoder's state.
    pub(super) row: usize,
}

/// A possible continuation of a hypothesis.
struct Candidate {
    log_prob: f64,
    /// Index of the hypothesis.
    parent: usize,
    token: u32,
}

/// The search of one sequence.
pub(super) struct Search<'a> {
    config: &'a BeamConfig,
    max_tokens: usize,
    /// Best first.
    pub(super) live: Vec<Live>,
    /// Best first, at most the beam size.
    pub(super) ended: Vec<Hypothesis>,
}

impl<'a> Search<'a> {
    pub(super) fn new(row: usize, max_tokens: usize, config: &'a BeamConfig) -> Self {
        let beginning = Live {
            tokens: Vec::new(),
            log_prob: 0.0,
            row,
        };
        Self {
            config,
            max_tokens,
            live: if max_tokens == 0 {
                Vec::new()
            } else {
                vec![beginning]
            },
            ended: Vec::new(),
        }
    }

    /// Extends the live hypotheses by their best continuations.
    pub(super) fn advance(&mut self, logits: &Logits) {
        let Some(length) = self.live.first().map(|live| live.tokens.len() + 1) else {
            return;
        };
        let mut next = Vec::new();
        for (rank, candidate) in self.candidates(logits).into_iter().enumerate() {
            let is_end = self.config.end == Some(candidate.token);
            // An end token must be among the best itself, so that a beam of one is greedy.
            let is_full = match is_end {
                true => rank >= self.config.beam_size,
                false => next.len() == self.config.beam_size,
            };
            if is_full {
                continue;
            }
            let parent = &self.live[candidate.parent];
            let mut tokens = parent.tokens.clone();
            if !is_end {
                tokens.push(candidate.token);
            }
            if is_end || length == self.max_tokens {
                self.end(tokens, candidate.log_prob, length, is_end);
            } else {
                next.push(Live {
                    tokens,
                    log_prob: candidate.log_prob,
                    row: parent.row,
                });
            }
        }
        self.live = next;
        if self.is_decided() {
            self.live.clear();
        }
    }

    /// The best continuations, best first. Each hypothesis can end in one way, so twice the beam
    /// size includes enough that do not end.
    fn candidates(&self, logits: &Logits) -> Vec<Candidate> {
        let mut all = Vec::with_capacity(self.live.len() * logits.vocab_size());
        for (parent, live) in self.live.iter().enumerate() {
            let log_probs = log_softmax(logits.row(live.row));
            all.extend((0..).zip(log_probs).map(|(token, log_prob)| Candidate {
                log_prob: live.log_prob + log_prob,
                parent,
                token,
            }));
        }
        // Tokens of probability 0 are not candidates.
        all.retain(|candidate| candidate.log_prob > f64::NEG_INFINITY);
        let order = |a: &Candidate, b: &Candidate| {
            let places = (a.parent, a.token).cmp(&(b.parent, b.token));
            b.log_prob.total_cmp(&a.log_prob).then(places)
        };
        let n = 2 * self.config.beam_size;
        if all.len() > n {
            all.select_nth_unstable_by(n, order);
            all.truncate(n);
        }
        all.sort_unstable_by(order);
        all
    }

    fn end(&mut self, tokens: Vec<u32>, log_prob: f64, length: usize, is_ended: bool) {
        let score = log_prob / self.config.penalty(length);
        let place = self.ended.partition_point(|other| other.score >= score);
        self.ended.insert(
            place,
            Hypothesis {
                tokens,
                log_prob,
                score,
                is_ended,
            },
        );
        self.ended.truncate(self.config.beam_size);
    }

    /// Whether no live hypothesis can become one of the best. Log-probabilities only decrease, and
    /// the penalty is mildest at the maximum length.
    fn is_decided(&self) -> bool {
        let (Some(best), Some(worst)) = (self.live.first(), self.ended.last()) else {
            return false;
        };
        let bound = best.log_prob / self.config.penalty(self.max_tokens);
        self.ended.len() == self.config.beam_size && worst.score >= bound
    }
}
