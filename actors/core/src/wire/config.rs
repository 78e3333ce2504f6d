use tandem_sip::protobuf::{Encode, Writer};

use super::flow::flow_from;
use super::trunk::{outward_from, rewrites_from, route_from};
use super::{Error, narrow, need, parse};
use crate::config::{
    Agent, Config, Country, Number, OfferSrtp, Queue, Secret, Srtp, Strategy, Target, Trunk,
    TrunkTls,
};
use crate::ids::AgentId;
use crate::limits;
use crate::proto;
use crate::trunk::numbers::Incoming;

impl Encode for Config {
    fn encode(&self, to: &mut Writer) {
        to.uint(1, self.version);
        to.text(2, &self.tenant);
        to.text(3, &self.realm);
        to.messages(4, &self.trunks);
        to.messages(5, &self.queues);
        to.messages(6, &self.agents);
        to.messages(7, &self.numbers);
        to.uint(8, self.acw_ms);
        to.uint(9, self.no_answer_ms);
        to.uint(10, self.call_ms_max);
        to.messages(11, self.flows.iter().map(|flow| &**flow));
        to.messages(12, self.retired.iter().map(|flow| &**flow));
        to.flag(40, self.tls_unverified);
        if self.srtp.offer != OfferSrtp::Never {
            to.text(41, self.srtp.offer.as_str());
        }
        to.blob(42, self.srtp.secret.bytes());
        to.some_uint(43, Some(self.session_expires_s));
        to.messages(60, &self.routes);
        if self.country != Country::default() {
            to.text(80, self.country.as_str());
        }
    }
}

pub fn country_from(name: &str) -> Result<Country, Error> {
    if name.is_empty() {
        return Ok(Country::default());
    }
    name.parse().map_err(|()| Error::Unknown("country", name.to_owned()))
}

fn offer_srtp_from(name: &str) -> Result<OfferSrtp, Error> {
    if name.is_empty() {
        return Ok(OfferSrtp::Never);
    }
    name.parse().map_err(|()| Error::Unknown("srtp", name.to_owned()))
}

impl Encode for Trunk {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        to.uint(2, self.channels);
        to.uint(3, self.guard_ms);
        for source in &self.sources {
            to.shown(4, source);
        }
        to.some_text(20, self.tls.client_name.as_deref());
        to.flag(21, self.tls.unverified);
        to.some_message(60, self.out.as_ref());
        to.messages(61, &self.incoming.called);
        to.messages(62, &self.incoming.calling);
        to.texts(121, self.codecs.iter().map(|codec| codec.name()));
        to.flag(170, self.shared);
    }
}

impl Encode for Queue {
    fn encode(&self, to: &mut Writer) {
        let strategy = match self.strategy {
            Strategy::LongestIdle => "longest_idle",
        };
        to.text(1, &self.id.0);
        to.text(2, strategy);
        for agent in &self.agents {
            to.some_text(3, Some(&agent.0));
        }
        to.uint(4, self.ring_ms_max);
        to.flag(5, self.record);
        to.uint(6, self.waiting_max);
        to.some_text(150, self.music.as_ref().map(|list| &*list.0));
    }
}

impl Encode for Agent {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.id.0);
        to.text(2, &self.ha1);
    }
}

impl Encode for Number {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.digits);
        match &self.target {
            Target::Queue(queue) => to.some_text(2, Some(&queue.0)),
            Target::Echo => to.flag(3, true),
            Target::Flow(flow) => to.some_text(4, Some(&flow.0)),
        }
    }
}

impl TryFrom<proto::Config> for Config {
    type Error = Error;

    fn try_from(config: proto::Config) -> Result<Self, Error> {
        let trunk = |trunk: proto::Trunk| -> Result<Trunk, Error> {
            let sources = trunk.sources.iter().map(|source| parse(source, "trunk.source"));
            Ok(Trunk {
                id: trunk.id.into(),
                channels: narrow(trunk.channels, "trunk.channels")?,
                guard_ms: trunk.guard_ms,
                sources: sources.collect::<Result<_, _>>()?,
                tls: TrunkTls {
                    client_name: trunk.tls_client_name,
                    unverified: trunk.tls_unverified,
                },
                out: trunk.out.map(outward_from).transpose()?,
                incoming: Incoming {
                    called: rewrites_from(trunk.called_in),
                    calling: rewrites_from(trunk.calling_in),
                },
                codecs: super::codecs_from(&trunk.codecs)?,
                shared: trunk.shared,
            })
        };
        let queue = |queue: proto::QueueConfig| -> Result<Queue, Error> {
            let strategy = match queue.strategy.as_str() {
                "longest_idle" => Strategy::LongestIdle,
                other => return Err(Error::Unknown("strategy", other.to_owned())),
            };
            Ok(Queue {
                id: queue.id.into(),
                strategy,
                agents: queue.agents.into_iter().map(AgentId::from).collect(),
                ring_ms_max: queue.ring_ms_max,
                record: queue.record,
                waiting_max: queue.waiting_max,
                music: queue.music.map(Into::into),
            })
        };
        let number = |number: proto::Number| -> Result<Number, Error> {
            use proto::number::Target as From;
            let target = match need(number.target, "number.target")? {
                From::Queue(queue) => Target::Queue(queue.into()),
                From::Echo(_) => Target::Echo,
                From::Flow(flow) => Target::Flow(flow.into()),
            };
            Ok(Number { digits: number.digits, target })
        };
        let agent = |agent: proto::AgentConfig| Agent { id: agent.id.into(), ha1: agent.ha1 };
        Ok(Self {
            version: config.version,
            tenant: config.tenant,
            realm: config.realm,
            trunks: config.trunks.into_iter().map(trunk).collect::<Result<_, _>>()?,
            queues: config.queues.into_iter().map(queue).collect::<Result<_, _>>()?,
            agents: config.agents.into_iter().map(agent).collect(),
            numbers: config.numbers.into_iter().map(number).collect::<Result<_, _>>()?,
            routes: config.routes.into_iter().map(route_from).collect(),
            acw_ms: config.acw_ms,
            no_answer_ms: config.no_answer_ms,
            call_ms_max: config.call_ms_max,
            session_expires_s: config
                .session_expires_s
                .unwrap_or(limits::SESSION_EXPIRES_S_DEFAULT),
            tls_unverified: config.tls_unverified,
            srtp: Srtp {
                offer: offer_srtp_from(&config.offer_srtp)?,
                secret: Secret::new(config.srtp_secret),
            },
            country: country_from(&config.country)?,
            flows: config.flows.into_iter().map(flow_from).collect::<Result<_, _>>()?,
            retired: config.retired.into_iter().map(flow_from).collect::<Result<_, _>>()?,
        })
    }
}
