//! RFC 3339 without a clock.

use tandem_sip::Millis;

/// UTC with milliseconds, for instance `2026-11-24T12:00:00.000Z`.
pub fn rfc3339(at: Millis) -> String {
    let (seconds, ms) = (at.0 / 1000, at.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Days since 1970-01-01 to a date of the Gregorian calendar (Hinnant, `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[test]
fn rfc3339_of_known_moments() {
    assert_eq!(rfc3339(Millis(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(Millis(951_782_400_123)), "2000-02-29T00:00:00.123Z");
    assert_eq!(rfc3339(Millis(1_795_521_599_999)), "2026-11-24T11:59:59.999Z");
}
