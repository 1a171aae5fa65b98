//! Feedback: what buyers say.

use fenghuo_event::{Feedback, Stream, pb};

use crate::catalogue::{Judge, Next, Read, Signal, View};
use crate::entity::Kind;
use crate::fold::{Fold, one};
use crate::reading::Reading;
use crate::series::REVIEWS;
use crate::statistics::wilson;

const PANE_MS: i64 = 600_000;
const DAY_MS: i64 = 86_400_000;

/// Ratings up to this one are negative.
const NEGATIVE_RATING_MAX: i32 = 2;

/// Folds a new review.
pub(crate) fn fold(feedback: &Feedback<'_>, at_ms: i64, out: &mut Fold<'_>) {
    use pb::feedback::{Kind as Said, Phase};
    let is_review = matches!(feedback.kind, Said::Review | Said::FollowUpReview);
    if is_review
        && feedback.phase == Phase::Opened
        && feedback.rating > 0
        && !feedback.sku_id.is_empty()
    {
        let negative = i64::from(feedback.rating <= NEGATIVE_RATING_MAX);
        out.add(
            &REVIEWS,
            one(Kind::Sku, &feedback.sku_id),
            at_ms,
            &[1, negative],
        );
    }
}

/// `review.negative_share`.
pub(crate) static NEGATIVE_SHARE: Signal = Signal {
    name: "review.negative_share",
    unit: "ratio to base",
    about: "share of reviews with at most two stars, against what is usual for the sku",
    formula: "share of ratings <= 2 in the last 24 h / base; base = (negative + 1) / (reviews + 20) of the 28 days before: \
              a sku without a past is held against one in twenty; lower and upper: the Wilson bounds / base; n: reviews \
              in 24 h",
    kinds: &[Kind::Sku],
    streams: &[Stream::Feedback],
    touched_by: &[&REVIEWS],
    judge: Judge::ClosedPane { width_ms: PANE_MS },
    advance: None,
    read: read_negative_share,
};

fn read_negative_share(view: &View<'_>) -> Read {
    let now_ms = view.now_ms;
    let day = view.history.sum(&REVIEWS, now_ms - DAY_MS, now_ms);
    let past = view
        .history
        .sum(&REVIEWS, now_ms - 29 * DAY_MS, now_ms - DAY_MS);
    let (reviews, negative) = (day[0].max(0).unsigned_abs(), day[1].max(0).unsigned_abs());
    if reviews == 0 {
        return Read {
            reading: Reading::exact(0.0, 0).insufficient(),
            next: Next::Touched,
        };
    }
    let base = (past[1] as f64 + 1.0) / (past[0] as f64 + 20.0);
    let mut reading = Reading::exact(negative as f64 / reviews as f64 / base, reviews);
    let (lower, upper) = wilson(negative, reviews);
    (reading.lower, reading.upper) = (lower / base, upper / base);
    Read {
        reading,
        next: Next::At(now_ms + PANE_MS),
    }
}
