//! The life of a certificate as a drawing: from its issue on the left to its expiry on the right, what
//! is over, the window in which it is renewed, the moment chosen in it, and now.

use crate::acme::renewal_info::Window;
use crate::time::UnixTime;

use super::html::Html;

/// What the drawing measures across, in units of its own.
const WIDTH: i64 = 1000;
/// The narrowest thing that is still seen.
const NARROWEST: i64 = 6;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) now: UnixTime,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) window: Option<Window>,
    pub(super) renewal: Option<UnixTime>,
}

impl Bar {
    /// How far to the right a moment is.
    fn place(&self, at: UnixTime) -> i64 {
        let whole = self.not_after.as_millis().saturating_sub(self.not_before.as_millis()).max(1);
        let part = at.as_millis().saturating_sub(self.not_before.as_millis());
        let place = i128::from(part) * i128::from(WIDTH) / i128::from(whole);
        i64::try_from(place.clamp(0, i128::from(WIDTH))).unwrap_or(WIDTH)
    }

    /// Draws it. The words are for whoever does not see it.
    pub(super) fn draw(&self, html: &mut Html) {
        let spent = self.place(self.now);
        html.raw(
            "<svg class=\"bar\" viewBox=\"0 0 1000 40\" preserveAspectRatio=\"none\" role=\"img\">",
        );
        html.element("<title>issued ", self.not_before, "");
        if let Some(at) = self.renewal {
            html.element(", to be renewed ", at, "");
        }
        html.element(", expires ", self.not_after, "</title>");
        html.raw("<rect class=\"life\" y=\"12\" width=\"1000\" height=\"16\" rx=\"8\"/>");
        html.element(
            "<rect class=\"spent\" y=\"12\" width=\"",
            spent,
            "\" height=\"16\" rx=\"8\"/>",
        );
        if let Some(window) = self.window {
            let (start, end) = (self.place(window.start), self.place(window.end));
            let width = (end - start).max(NARROWEST);
            html.element("<rect class=\"window\" x=\"", start, "\" y=\"12\" height=\"16\"");
            html.element(" width=\"", width, "\"/>");
        }
        if let Some(at) = self.renewal {
            let place = self.place(at).min(WIDTH - NARROWEST);
            html.element("<rect class=\"renewal\" x=\"", place, "\" y=\"4\" height=\"32\"");
            html.element(" width=\"", NARROWEST, "\"/>");
        }
        let here = (spent - NARROWEST / 2).clamp(0, WIDTH - NARROWEST);
        html.element("<rect class=\"now\" x=\"", here, "\" height=\"40\"");
        html.element(" width=\"", NARROWEST, "\"/></svg>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn moments_are_where_they_belong_and_never_outside() {
        let window = Some(Window { start: at(60), end: at(70) });
        let (not_before, not_after, renewal) = (at(0), at(100), Some(at(65)));
        let bar = Bar { now: at(25), not_before, not_after, window, renewal };
        assert_eq!([-5, 0, 25, 100, 500].map(|it| bar.place(at(it))), [0, 0, 250, 1000, 1000]);
        let mut html = Html::default();
        bar.draw(&mut html);
        let drawn = html.finish();
        assert!(drawn.contains("class=\"spent\" y=\"12\" width=\"250\""), "{drawn}");
        assert!(drawn.contains("x=\"600\" y=\"12\" height=\"16\" width=\"100\""), "{drawn}");
        assert!(drawn.contains("class=\"renewal\" x=\"650\""), "{drawn}");
        // A life without a length divides nothing by zero.
        let odd = Bar { not_after: at(0), now: at(i64::MAX / 1000), ..bar };
        assert_eq!((odd.place(at(0)), odd.place(odd.now)), (0, 1000));
    }
}
