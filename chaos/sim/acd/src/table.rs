//! The report as a table, for a call centre's manager.

use std::fmt;

use crate::erlang::least_agents;
use crate::report::{Figures, IntervalFigures, Report};
use crate::scenario::{ArrivalDistribution, Distribution, Queue, Scenario};

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Seconds,
    Callers,
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.2} %", value * 100.0),
            Self::Seconds => format!("{value:.2} s"),
            Self::Callers => format!("{value:.3}"),
        }
    }
}

/// Label, unit, and where the figure is found.
type Line = (String, Unit, fn(&Figures) -> Option<f64>);

fn lines(scenario: &Scenario) -> Vec<Line> {
    let level = match &scenario.queues[..] {
        [queue] => format!("service level, {} s", queue.service_level.threshold_s),
        _ => "service level".into(),
    };
    vec![
        ("abandonment rate".into(), Unit::Percent, |f| f.abandonment),
        (level, Unit::Percent, |f| f.service_level),
        ("ASA (wait of the answered)".into(), Unit::Seconds, |f| f.asa_s),
        ("ATA (wait of the abandoned)".into(), Unit::Seconds, |f| f.ata_s),
        ("mean wait of all".into(), Unit::Seconds, |f| f.mean_wait_s),
        ("probability of waiting".into(), Unit::Percent, |f| f.waiting_probability),
        ("mean queue length".into(), Unit::Callers, |f| f.mean_queue),
        ("occupancy (talk + ACW)".into(), Unit::Percent, |f| f.occupancy),
        ("ringing".into(), Unit::Percent, |f| f.ringing),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        let name = self.model.as_ref().map_or("", |model| model.name);
        let deviation = if name.is_empty() { "" } else { "deviation" };
        let head =
            format!("{:<28}{:>14}{:>12}{name:>14}{deviation:>12}", "", "simulated", "± 95 %");
        writeln!(f, "{}", head.trim_end())?;
        for (label, unit, of) in lines(&self.scenario) {
            let expected = self.model.as_ref().and_then(|model| of(&model.figures));
            let Some(value) = of(&self.figures) else { continue };
            // What can't happen is not worth a line.
            if value == 0.0 && expected.is_none_or(|expected| expected == 0.0) {
                continue;
            }
            let spread = of(&self.spread).map(|s| unit.write(s)).unwrap_or_default();
            let deviation = expected.filter(|e| *e != 0.0).map(|e| (value / e - 1.0) * 100.0);
            let deviation = deviation.map(|d| format!("{d:+.2} %")).unwrap_or_default();
            let expected = expected.map(|e| unit.write(e)).unwrap_or_default();
            let value = unit.write(value);
            let line = format!("{label:<28}{value:>14}{spread:>12}{expected:>14}{deviation:>12}");
            writeln!(f, "{}", line.trim_end())?;
        }
        self.foot(f)
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = &self.scenario;
        writeln!(f, "{}", scenario.title)?;
        for queue in &scenario.queues {
            self.asked(f, queue)?;
        }
        if let Some(ignored) = &scenario.ignored_rings {
            writeln!(
                f,
                "agents ignore {} % of the rings: {} s each, and they are back {} s later",
                ignored.probability * 100.0,
                ignored.ring_out_s,
                ignored.back_after_s,
            )?;
        }
        writeln!(
            f,
            "{} h measured after {} h of warm-up; seed {}; {} commands applied",
            scenario.hours,
            scenario.warm_up_hours,
            self.seed,
            grouped(self.commands),
        )?;
        let counts = &self.counts;
        writeln!(f)?;
        for (label, count) in [
            ("offered", counts.offered),
            ("answered", counts.answered),
            ("abandoned", counts.abandoned),
            ("refused, the queue full", counts.refused),
        ] {
            writeln!(f, "{label:<28}{:>14}", grouped(count))?;
        }
        if scenario.ignored_rings.is_some() {
            writeln!(f, "{:<28}{:>14}", "rings that were ignored", grouped(counts.ignored))?;
        }
        writeln!(f)?;
        self.by_queue(f)
    }

    /// What one queue's callers and agents are asked to do.
    fn asked(&self, f: &mut fmt::Formatter<'_>, queue: &Queue) -> fmt::Result {
        let scenario = &self.scenario;
        let spread = |distribution| match distribution {
            Distribution::Exponential => "exponential",
            Distribution::Constant => "constant",
        };
        let talk = &queue.talk_time;
        let arrivals = match queue.arrivals.distribution {
            ArrivalDistribution::Poisson => "Poisson",
            ArrivalDistribution::Constant => "evenly",
        };
        if let [_] = &scenario.queues[..] {
            write!(f, "{} agents", scenario.agents)?;
        } else {
            let (first, last) = (queue.agents.start + 1, queue.agents.end);
            write!(f, "{}: agents {first} to {last} of {}", queue.name, scenario.agents)?;
        }
        writeln!(
            f,
            "; {} calls an hour, {}; talk {} s, {}; ACW {} s; phones ring for {} s",
            queue.arrivals.per_hour(),
            arrivals,
            talk.mean_s,
            spread(talk.distribution),
            scenario.after_call_work_s,
            scenario.answer_delay_s,
        )?;
        match &queue.patience {
            Some(patience) => {
                let how = spread(patience.distribution);
                writeln!(f, "callers give up after {} s, {how}", patience.mean_s)
            }
            None => writeln!(f, "callers never give up"),
        }
    }

    /// By queue and interval, where there is more than one of either.
    fn by_queue(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.queues.len() == 1 && self.queues[0].intervals.len() == 1 {
            return Ok(());
        }
        for (figures, queue) in self.queues.iter().zip(&self.scenario.queues) {
            let level = format!("in {} s", queue.service_level.threshold_s);
            let head = format!("queue {}", figures.name);
            write!(f, "{head:<28}{:>10}{:>10}{:>10}", "offered", "answered", "abandoned")?;
            writeln!(f, "{:>10}{level:>12}{:>12}{:>12}", "refused", "ASA", "occupancy")?;
            let mut from = 0.0;
            for (interval, of) in queue.arrivals.profile.iter().zip(&figures.intervals) {
                let to = from + interval.hours;
                if figures.intervals.len() > 1 {
                    let label = format!("{from}-{to} h, {} an hour", interval.per_hour);
                    interval_line(f, &label, of)?;
                }
                from = to;
            }
            interval_line(f, "all day", &figures.whole)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn foot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let longest_s = counts.wait_ms_max as f64 / 1_000.0;
        writeln!(f, "{:<28}{:>14}", "longest wait", Unit::Seconds.write(longest_s))?;
        writeln!(f, "{:<28}{:>14}", "longest queue", grouped(counts.queue_max as u64))?;
        writeln!(f)?;
        writeln!(f, "{:<28}{:>14}{:>12}{:>14}", "each agent", "least", "mean", "most")?;
        let calls = self.agents.iter().map(|agent| agent.answered);
        let mean = counts.answered as f64 / self.agents.len() as f64;
        let (least, most) = (calls.clone().min().unwrap_or(0), calls.max().unwrap_or(0));
        let (least, most) = (grouped(least), grouped(most));
        writeln!(f, "{:<28}{least:>14}{mean:>12.1}{most:>14}", "calls answered")?;
        let occupancies = self.agents.iter().map(|agent| agent.occupancy);
        let least = Unit::Percent.write(occupancies.clone().fold(f64::INFINITY, f64::min));
        let most = Unit::Percent.write(occupancies.fold(0.0, f64::max));
        let mean = Unit::Percent.write(self.figures.occupancy.unwrap_or_default());
        writeln!(f, "{:<28}{least:>14}{mean:>12}{most:>14}", "occupancy")?;
        writeln!(f)?;
        self.notes(f)
    }

    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = &self.scenario;
        let level = &scenario.queue().service_level;
        let (load, threshold_s) = (scenario.load(), level.threshold_s);
        if let [_] = &scenario.queues[..] {
            writeln!(
                f,
                "Service level: answered within {threshold_s} s ÷ offered; callers who gave up \
                 count against it."
            )?;
        } else {
            writeln!(
                f,
                "Service level: answered within each queue's time ÷ offered; callers who gave up \
                 count against it."
            )?;
        }
        if !scenario.is_simple() {
            writeln!(
                f,
                "No model beside it: the formulas know one queue, a steady stream of callers and \
                 agents who answer."
            )?;
            return self.textbook_note(f);
        }
        if self.model.is_none() {
            let why = match &scenario.queue().patience {
                Some(_) => "Erlang A knows exponential patience only".to_owned(),
                None => format!("{load:.2} erlangs are too much for {} agents", scenario.agents),
            };
            writeln!(f, "No model beside it: {why}.")?;
        }
        let within_s = threshold_s - scenario.answer_delay_s;
        if within_s >= 0.0 {
            let least = least_agents(load, scenario.holding_s(), within_s, level.target);
            writeln!(
                f,
                "Load {load:.2} erlangs; Erlang C asks for {least} agents for {:.0} % within \
                 {threshold_s} s.",
                level.target * 100.0
            )?;
        }
        self.textbook_note(f)
    }

    fn textbook_note(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_textbook {
            Some(true) => writeln!(
                f,
                "A textbook's queue makes the same callers wait as long, to the millisecond."
            ),
            Some(false) => writeln!(
                f,
                "BUG: a textbook's queue makes the same callers wait otherwise. Report the \
                 scenario and its seed."
            ),
            None => Ok(()),
        }
    }
}

fn interval_line(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    figures: &IntervalFigures,
) -> fmt::Result {
    let counts = [figures.offered, figures.answered, figures.abandoned, figures.refused];
    write!(f, "{label:<28}")?;
    for count in counts {
        write!(f, "{:>10}", grouped(count))?;
    }
    let written = |value: Option<f64>, unit: Unit| value.map_or("-".into(), |v| unit.write(v));
    let level = written(figures.service_level, Unit::Percent);
    let asa = written(figures.asa_s, Unit::Seconds);
    let occupancy = written(figures.occupancy, Unit::Percent);
    writeln!(f, "{level:>12}{asa:>12}{occupancy:>12}")
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
