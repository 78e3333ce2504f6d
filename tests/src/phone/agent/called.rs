//! Requests that come to the phone.

use super::*;

impl Agent {
    pub(super) async fn on_request(&mut self, request: Request, source: SocketAddr) {
        let key = (branch(&request), request.method.to_string());
        if request.method != Method::Ack
            && let Some(bytes) = self.answers.get(&key)
        {
            let bytes = bytes.clone();
            self.send(&bytes, source).await;
            return;
        }
        if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
            call.heard.push(request.clone());
        }
        let denied = self.shared.denied.lock().iter().find(|(m, _)| *m == request.method).cloned();
        if let Some((_, status)) = denied.filter(|_| request.is_in_dialog()) {
            self.check_cseq(&request);
            self.respond(&request, status, source).await;
            return;
        }
        match request.method {
            Method::Invite => self.on_invite(request, source).await,
            Method::Ack => {
                if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
                    call.repeat = None;
                }
            }
            Method::Cancel => self.on_cancel(request, source).await,
            Method::Bye => {
                self.check_cseq(&request);
                let known = self.shared.calls.lock().contains_key(&request.headers.call_id);
                self.end(&request.headers.call_id, Ended::ByPeer);
                self.respond(&request, if known { 200 } else { 481 }, source).await;
            }
            Method::Notify => {
                self.check_cseq(&request);
                self.respond(&request, 200, source).await;
                let said = String::from_utf8_lossy(&request.body).into_owned();
                let status = said.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
                if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
                    call.notified.extend(status);
                }
            }
            Method::Options | Method::Info | Method::Update => {
                self.check_cseq(&request);
                let known = |calls: &BTreeMap<String, Call>| {
                    let call = calls.get(&request.headers.call_id);
                    call.is_some_and(|call| call.end == CallEnd::Live && !call.left)
                };
                let knows = !request.is_in_dialog() || known(&self.shared.calls.lock());
                self.respond(&request, if knows { 200 } else { 481 }, source).await;
            }
            _ => self.respond(&request, 405, source).await,
        }
    }

    fn check_cseq(&self, request: &Request) {
        if let Some(call) = self.shared.calls.lock().get_mut(&request.headers.call_id) {
            let got = request.headers.cseq.number;
            if got <= call.remote_cseq {
                self.shared.violations.lock().push(Violation::CseqNotHigher {
                    call_id: call.call_id.clone(),
                    had: call.remote_cseq,
                    got,
                });
            }
            call.remote_cseq = got;
        }
    }

    pub(super) fn put_headers(&self, headers: &mut Headers) {
        for (name, value) in self.shared.headers.lock().iter() {
            headers.push_other(name, value);
        }
    }

    async fn respond(&mut self, request: &Request, status: u16, to: SocketAddr) {
        let tag = self
            .shared
            .calls
            .lock()
            .get(&request.headers.call_id)
            .map(|call| call.local_tag.clone())
            .filter(|tag| !tag.is_empty());
        let mut response = request.respond(status, None, tag.as_deref());
        self.put_headers(&mut response.headers);
        let bytes = response.to_bytes();
        self.answers.insert((branch(request), request.method.to_string()), bytes.clone());
        self.send(&bytes, to).await;
    }

    async fn on_invite(&mut self, request: Request, source: SocketAddr) {
        let call_id = request.headers.call_id.clone();
        let known = self.shared.calls.lock().contains_key(&call_id);
        let in_dialog = request.headers.to.params.iter().any(|param| param.name == "tag");
        if known && in_dialog {
            self.check_cseq(&request);
            self.on_reinvite(request, source).await;
            return;
        }
        if known {
            let same = self.seen_branches.contains(&(call_id.clone(), branch(&request)));
            if !same {
                self.shared.violations.lock().push(Violation::SecondTransaction { call_id });
            }
            return;
        }
        self.seen_branches.insert((call_id.clone(), branch(&request)));
        let now = Instant::now();
        let call = Call {
            call_id: call_id.clone(),
            incoming: true,
            peer: request.headers.from.uri.user.clone().unwrap_or_default(),
            ringing: true,
            answered_at: None,
            invited_at: now,
            end: CallEnd::Live,
            left: false,
            media: None,
            dialog: None,
            local_tag: format!("{:08x}", rand::random::<u32>()),
            remote_cseq: request.headers.cseq.number,
            invite: request.clone(),
            answer: None,
            repeat: None,
            acked: None,
            notified: Vec::new(),
            previews: Vec::new(),
            heard: vec![request.clone()],
        };
        self.shared.calls.lock().insert(call_id.clone(), call);
        match self.options.incoming {
            Incoming::Answer { after_ms } => {
                self.respond_invite(&call_id, 180, source).await;
                self.answer_at.insert(call_id, now + Duration::from_millis(after_ms));
            }
            Incoming::Ring => self.respond_invite(&call_id, 180, source).await,
            Incoming::Announce => self.announce(&call_id, source).await,
            Incoming::Reject { status } => {
                self.respond_invite(&call_id, status, source).await;
                self.end(&call_id, Ended::Refused { status });
            }
            Incoming::Move { to } => {
                self.moved = Some(bare(self.server_uri(Some(&to.to_string()))));
                self.respond_invite(&call_id, 302, source).await;
                self.end(&call_id, Ended::Refused { status: 302 });
            }
        }
    }

    /// A response without SDP to the INVITE that came in.
    async fn respond_invite(&mut self, call_id: &str, status: u16, to: SocketAddr) {
        let made = self.shared.calls.lock().get(call_id).map(|call| {
            let mut response = call.invite.respond(status, None, Some(&call.local_tag));
            let contact = self.moved.clone().filter(|_| status == 302);
            response.headers.contact = vec![contact.unwrap_or_else(|| bare(self.own_uri()))];
            self.put_headers(&mut response.headers);
            (response.to_bytes(), branch(&call.invite))
        });
        if let Some((bytes, branch)) = made {
            self.answers.insert((branch, "INVITE".into()), bytes.clone());
            self.send(&bytes, to).await;
        }
    }

    /// 183 with the answer that its 200 will have, too.
    async fn announce(&mut self, call_id: &str, to: SocketAddr) {
        let media = self.open_media();
        let made = {
            let mut calls = self.shared.calls.lock();
            calls.get_mut(call_id).and_then(|call| self.described_as(183, call, media))
        };
        if let Some((response, branch)) = made {
            let bytes = response.to_bytes();
            self.answers.insert((branch, "INVITE".into()), bytes.clone());
            self.send(&bytes, to).await;
        }
    }

    pub(super) async fn pick_up(&mut self, call_id: &str) {
        let server = self.options.server;
        let media = self.open_media();
        let made = {
            let mut calls = self.shared.calls.lock();
            let call = calls.get_mut(call_id);
            call.filter(|call| call.end == CallEnd::Live && call.answered_at.is_none())
                .and_then(|call| self.accept(call, media, server))
        };
        if let Some((bytes, branch)) = made {
            self.answers.insert((branch, "INVITE".into()), bytes.clone());
            self.send(&bytes, server).await;
        }
    }

    /// A response with the phone's answer; it talks as that says, over the audio that it has already
    /// or this one.
    fn described_as(
        &self,
        status: u16,
        call: &mut Call,
        media: Option<Arc<Endpoint>>,
    ) -> Option<(Response, String)> {
        let endpoint = call.media.clone().or(media)?;
        let offer = Audio::parse(&call.invite.body).ok()?;
        let agreed = sdp::negotiate(&offer, &self.shared.codecs.lock()).ok()?;
        let mut answer = self.audio(&endpoint);
        answer.payloads = vec![Payload { number: agreed.payload, ..self.said(agreed.codec) }];
        answer.telephone_event = offer.telephone_event;
        answer.secure = offer.secure;
        answer.crypto = offer.crypto.first().cloned().into_iter().collect();
        for line in &mut answer.crypto {
            line.key = fresh_key(line.suite);
        }
        let theirs = Audio { payloads: answer.payloads.clone(), ..offer };
        self.talk(&endpoint, &answer, &theirs);
        let mut response = call.invite.respond(status, None, Some(&call.local_tag));
        response.headers.contact = vec![bare(self.own_uri())];
        response.headers.content_type = Some("application/sdp".into());
        response.body = answer.compose();
        self.put_headers(&mut response.headers);
        call.media = Some(endpoint);
        Some((response, branch(&call.invite)))
    }

    fn accept(
        &self,
        call: &mut Call,
        media: Option<Arc<Endpoint>>,
        server: SocketAddr,
    ) -> Option<(Vec<u8>, String)> {
        let (response, branch) = self.described_as(200, call, media)?;
        let bytes = response.to_bytes();
        let now = Instant::now();
        call.dialog = Dialog::as_uas(&call.invite, &call.local_tag).ok();
        call.answered_at = Some(now);
        call.answer = Some(bytes.clone());
        call.repeat = Some(Repeat {
            next: now + Duration::from_millis(T1_MS),
            interval_ms: T1_MS,
            destination: server,
        });
        Some((bytes, branch))
    }

    /// What the phone has said of the call's audio before.
    fn described(&self, call: &Call, endpoint: &Endpoint) -> Audio {
        let answer = call.answer.as_deref().filter(|_| call.incoming).map(tandem_sip::parse);
        let body = match answer {
            Some(Ok(Message::Response(answer))) => answer.body,
            Some(_) | None => call.invite.body.clone(),
        };
        Audio::parse(&body).unwrap_or_else(|_| self.audio(endpoint))
    }

    /// Hold, retrieve or refresh: the same media again.
    async fn on_reinvite(&mut self, request: Request, source: SocketAddr) {
        let answer = {
            let calls = self.shared.calls.lock();
            calls.get(&request.headers.call_id).and_then(|call| {
                let endpoint = call.media.as_ref()?;
                let mut response = request.respond(200, None, Some(&call.local_tag));
                response.headers.contact = vec![bare(self.own_uri())];
                response.headers.content_type = Some("application/sdp".into());
                response.body = self.described(call, endpoint).compose();
                self.put_headers(&mut response.headers);
                Some(response.to_bytes())
            })
        };
        match answer {
            Some(bytes) => {
                self.answers.insert((branch(&request), "INVITE".into()), bytes.clone());
                self.send(&bytes, source).await;
            }
            None => self.respond(&request, 488, source).await,
        }
    }

    async fn on_cancel(&mut self, request: Request, source: SocketAddr) {
        let call_id = request.headers.call_id.clone();
        self.respond(&request, 200, source).await;
        let pending = self
            .shared
            .calls
            .lock()
            .get(&call_id)
            .is_some_and(|call| call.end == CallEnd::Live && call.answered_at.is_none());
        if pending {
            self.answer_at.remove(&call_id);
            self.respond_invite(&call_id, 487, source).await;
            self.end(&call_id, Ended::Cancelled);
        }
    }
}
