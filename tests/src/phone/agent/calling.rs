//! Calls that the phone makes.

use super::*;

impl Agent {
    pub(super) async fn send_invite(&mut self, number: &str, call_id: String) {
        let to = bare(self.server_uri(Some(number)));
        let mut request =
            self.request(Method::Invite, self.server_uri(Some(number)), to, call_id.clone(), 1);
        self.put_headers(&mut request.headers);
        let media = self.open_media();
        if let Some(endpoint) = &media {
            request.headers.content_type = Some("application/sdp".into());
            request.body = self.offer(endpoint).compose();
        }
        let now = Instant::now();
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(now, &request, server);
        let call = Call {
            call_id: call_id.clone(),
            incoming: false,
            peer: number.to_owned(),
            ringing: false,
            answered_at: None,
            invited_at: now,
            end: CallEnd::Live,
            left: false,
            media,
            dialog: None,
            local_tag: String::new(),
            invite: request,
            answer: None,
            repeat: None,
            remote_cseq: 0,
            acked: None,
            notified: Vec::new(),
            previews: Vec::new(),
            heard: Vec::new(),
        };
        self.shared.calls.lock().insert(call_id.clone(), call);
        self.send(&bytes, server).await;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let response = answered.await.ok().flatten();
            let _ = commands.send(Command::FinalOfDial { call_id, response });
        });
    }

    /// The 200 itself was acknowledged where it came in; here a refusal or silence is noted.
    pub(super) async fn on_dial_final(&mut self, call_id: &str, response: Option<Response>) {
        match response {
            None => self.end(call_id, Ended::Silent),
            Some(response) if response.status >= 300 => {
                let ended = match response.status {
                    487 => Ended::Cancelled,
                    status => Ended::Refused { status },
                };
                self.end(call_id, ended);
            }
            Some(_) => {}
        }
    }

    pub(super) async fn send_bye(&mut self, call_id: String, done: oneshot::Sender<Result<u16>>) {
        let via = self.via();
        let request = {
            let mut calls = self.shared.calls.lock();
            let call = calls.get_mut(&call_id).filter(|call| call.dialog.is_some());
            call.and_then(|call| {
                call.left = true;
                call.dialog.as_mut().map(|dialog| dialog.request(Method::Bye, via, None))
            })
        };
        let Some(mut request) = request else {
            let _ = done.send(Err(anyhow::anyhow!("no such answered call")));
            return;
        };
        self.put_headers(&mut request.headers);
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(Instant::now(), &request, server);
        self.send(&bytes, server).await;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let response = answered.await.ok().flatten();
            let _ = commands.send(Command::FinalOfBye { call_id, response, done });
        });
    }

    /// The other party shall go on to another number (RFC 3515).
    pub(super) async fn send_refer(
        &mut self,
        call_id: &str,
        to: &str,
        replaces: Option<String>,
        done: oneshot::Sender<Result<u16>>,
    ) {
        let via = self.via();
        let contact = bare(self.own_uri());
        let mut target = bare(self.server_uri(Some(to)));
        // Escaped as RFC 3261 §25.1 has it for a URI's headers.
        target.uri.headers = replaces.map(|value| {
            let value = value.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
            format!("Replaces={value}")
        });
        let request = {
            let mut calls = self.shared.calls.lock();
            let dialog = calls.get_mut(call_id).and_then(|call| call.dialog.as_mut());
            dialog.map(|dialog| dialog.request(Method::Refer, via, Some(contact)))
        };
        let Some(mut request) = request else {
            let _ = done.send(Err(anyhow::anyhow!("no such answered call")));
            return;
        };
        request.headers.push_other("Refer-To", &target.to_string());
        self.ask_within(&request, done).await;
    }

    /// Sends a request; gives its status to whoever waits.
    async fn ask_within(&mut self, request: &Request, done: oneshot::Sender<Result<u16>>) {
        let server = self.options.server;
        let (bytes, answered) = self.exchanges.begin(Instant::now(), request, server);
        self.send(&bytes, server).await;
        tokio::spawn(async move {
            let status = answered.await.ok().flatten().map(|response| response.status);
            // Nobody may be waiting any more; that is the waiter's business.
            let _ = done.send(status.context("a request within a call was never answered"));
        });
    }

    /// Holds, or takes the call back, by an UPDATE, for that needs no ACK (RFC 3311).
    pub(super) async fn send_hold(
        &mut self,
        call_id: &str,
        held: bool,
        done: oneshot::Sender<Result<u16>>,
    ) {
        let via = self.via();
        let contact = bare(self.own_uri());
        let request = {
            let mut calls = self.shared.calls.lock();
            let call = calls.get_mut(call_id);
            call.and_then(|call| {
                let mut audio = self.audio(call.media.as_ref()?);
                let update = call.dialog.as_mut()?.request(Method::Update, via, Some(contact));
                audio.direction = if held { Direction::SendOnly } else { Direction::SendRecv };
                audio.session_version = u64::from(update.headers.cseq.number);
                Some((update, audio))
            })
        };
        let Some((mut request, audio)) = request else {
            let _ = done.send(Err(anyhow::anyhow!("no such answered call")));
            return;
        };
        request.headers.content_type = Some("application/sdp".into());
        request.body = audio.compose();
        self.ask_within(&request, done).await;
    }

    pub(super) async fn send_cancel(&mut self, call_id: &str) {
        let cancel = self
            .shared
            .calls
            .lock()
            .get(call_id)
            .map(|call| tandem_sip::dialog::cancel_for(&call.invite));
        if let Some(cancel) = cancel {
            self.send(&cancel.to_bytes(), self.options.server).await;
        }
    }

    pub(super) async fn on_response(&mut self, response: Response) {
        let branch = response
            .headers
            .via
            .first()
            .and_then(|via| via.params.iter().find(|param| param.name == "branch"))
            .and_then(|param| param.value.clone())
            .unwrap_or_default();
        if response.headers.cseq.method == Method::Invite {
            self.on_invite_response(&response).await;
        }
        // A CANCEL has the branch of its INVITE, which is answered on its own.
        if response.headers.cseq.method != Method::Cancel {
            self.exchanges.on_response(&branch, &response);
        }
    }

    async fn on_invite_response(&mut self, response: &Response) {
        let call_id = response.headers.call_id.clone();
        let via = self.via();
        let mut send = None;
        if let Some(call) = self.shared.calls.lock().get_mut(&call_id) {
            match response.status {
                180..=199 => self.on_ringing(call, response),
                200..=299 => send = self.on_answer(call, response, via),
                300..=699 => {
                    let ack = tandem_sip::dialog::ack_for_failure(&call.invite, response);
                    send = Some(ack.to_bytes());
                }
                _ => {}
            }
        }
        if let Some(bytes) = send {
            self.send(&bytes, self.options.server).await;
        }
    }

    /// It rings; where it is heard already, the phone talks.
    fn on_ringing(&self, call: &mut Call, response: &Response) {
        call.ringing = true;
        let Ok(audio) = Audio::parse(&response.body) else { return };
        call.previews.push(String::from_utf8_lossy(&response.body).into_owned());
        if let (Ok(own), Some(endpoint)) = (Audio::parse(&call.invite.body), &call.media) {
            self.talk(endpoint, &own, &audio);
        }
    }

    /// A 2xx: the first one is taken, a repeated one is acknowledged again with the same ACK.
    fn on_answer(&self, call: &mut Call, response: &Response, via: Via) -> Option<Vec<u8>> {
        let bytes = response.to_bytes();
        if let Some(first) = &call.answer {
            if *first != bytes {
                self.shared
                    .violations
                    .lock()
                    .push(Violation::AnswerChanged { call_id: call.call_id.clone() });
            }
            return call.acked.clone();
        }
        call.answer = Some(bytes);
        call.answered_at = Some(Instant::now());
        let dialog = Dialog::as_uac(&call.invite, response).ok()?;
        let ack = dialog.ack(call.invite.headers.cseq.number, via).to_bytes();
        call.dialog = Some(dialog);
        call.acked = Some(ack.clone());
        let descriptions = (Audio::parse(&call.invite.body), Audio::parse(&response.body));
        if let ((Ok(own), Ok(audio)), Some(endpoint)) = (descriptions, &call.media) {
            self.talk(endpoint, &own, &audio);
        }
        Some(ack)
    }
}
