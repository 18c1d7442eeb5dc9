//! An axis from 0 to a round number, with round numbers between. Pure.

/// An axis from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// Where it ends; above 0.
    pub(super) end: f64,
    step: f64,
}

impl Axis {
    /// The shortest that holds all of `values`.
    pub(super) fn up_to(values: impl Iterator<Item = f64>) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let unit = 10_f64.powf((most / STEPS_MAX).log10().floor());
        let fits = |step: &f64| (most / step).ceil() <= STEPS_MAX;
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * unit);
        let step = steps.into_iter().find(fits).unwrap_or(most);
        Self { end: (most / step).ceil() * step, step }
    }

    /// 0, every step, and the end.
    pub(super) fn ticks(self) -> impl Iterator<Item = f64> {
        let Self { end, step } = self;
        (0_u8..).map(move |index| f64::from(index) * step).take_while(move |tick| {
            // The end itself may be a rounding error away.
            *tick <= end + step / 2.0
        })
    }
}

const STEPS_MAX: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        for (most, end) in [(279.0, 300.0), (903.0, 1000.0), (17.8, 20.0), (0.51, 0.6), (5.0, 5.0)]
        {
            let axis = Axis::up_to([0.1, most].into_iter());
            assert!((axis.end - end).abs() < 1e-9, "{most}: {axis:?}");
            assert!((2..=6).contains(&axis.ticks().count()), "{most}: {axis:?}");
        }
    }

    #[test]
    fn an_axis_of_nothing_is_an_axis() {
        assert_eq!(Axis::up_to([f64::NAN].into_iter()).end, 1.0);
    }
}
