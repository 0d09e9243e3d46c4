// Logging in and setting the password: the forms, the dialog, and the pages
// that stand alone.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refused, words } from "../api";
import { asking, logIn, session, setUp } from "../session";
import { gateway } from "../state";
import { text } from "../text";

/** The gateway's own limit; said before the password is sent. */
const PASSWORD_MIN = 8;

interface Doing {
  busy: boolean;
  error: string | null;
  /** Seconds for which the gateway won't listen. */
  wait: number;
  run: (what: () => Promise<unknown>) => void;
}

/** Something that may be refused, and refused for a while. */
export function useDoing(): Doing {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [until, setUntil] = useState(0);
  const [time, setTime] = useState(Date.now());
  const wait = Math.max(0, Math.ceil((until - time) / 1000));
  useEffect(() => {
    if (until <= Date.now()) return;
    const timer = setInterval(() => setTime(Date.now()), 250);
    return () => clearInterval(timer);
  }, [until, wait === 0]);
  const run = (what: () => Promise<unknown>) => {
    setBusy(true);
    setError(null);
    what()
      .catch((failure: unknown) => {
        const slowed = failure instanceof Refused && failure.wait > 0;
        setTime(Date.now());
        setUntil(slowed ? Date.now() + failure.wait * 1000 : 0);
        setError(slowed ? null : failure instanceof Refused && failure.status === 401 ? text.wrong(failure.message) : words(failure));
      })
      .finally(() => setBusy(false));
  };
  return { busy, error, wait, run };
}

/** What went wrong, told to a screen reader too. */
export function Trouble({ doing: { error, wait } }: { doing: Doing }) {
  return (
    <p class="trouble" role="alert">
      {wait > 0 ? text.slowedDown(wait) : error}
    </p>
  );
}

interface FieldProps {
  id: string;
  label: string;
  value: string;
  change: (value: string) => void;
  autocomplete: string;
  focus?: boolean;
  invalid?: boolean;
}

export function PasswordField({ id, label, value, change, autocomplete, focus, invalid }: FieldProps) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (focus) input.current?.focus();
  }, []);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input ref={input} id={id} type="password" required autocomplete={autocomplete} value={value} aria-invalid={invalid || undefined} onInput={(event) => change(event.currentTarget.value)} />
    </div>
  );
}

/** Password managers file a password under a name; there is one account. */
export function AccountName() {
  return <input type="text" name="username" autocomplete="username" value="tidemill" readOnly hidden />;
}

function LogInForm({ cancel }: { cancel?: () => void }) {
  const [password, setPassword] = useState("");
  const doing = useDoing();
  if (session.value && !session.value.passwordSet) return <NoPassword cancel={cancel} />;
  const submit = (event: Event) => {
    event.preventDefault();
    doing.run(async () => {
      await logIn(password);
      asking.value = false;
    });
  };
  return (
    <form onSubmit={submit}>
      <AccountName />
      <PasswordField id="password" label={text.password} value={password} change={setPassword} autocomplete="current-password" focus invalid={doing.error !== null} />
      <Trouble doing={doing} />
      <p class="actions">
        {cancel && (
          <button type="button" onClick={cancel}>
            {text.cancel}
          </button>
        )}
        <button type="submit" class="main" disabled={doing.busy || doing.wait > 0 || !password}>
          {doing.busy ? text.checking : text.logIn}
        </button>
      </p>
    </form>
  );
}

/** There is no default password; only who can reach the gateway itself gets a link. */
function NoPassword({ cancel }: { cancel: (() => void) | undefined }) {
  return (
    <>
      <p>{text.noPassword}</p>
      <p>
        <code class="command">tidemill passwd --link</code>
      </p>
      {cancel && (
        <p class="actions">
          <button type="button" onClick={cancel}>
            {text.close}
          </button>
        </p>
      )}
    </>
  );
}

/** The dialog over the page. */
export function LogIn() {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = asking.value;
  const close = () => {
    asking.value = false;
  };
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} aria-labelledby="log-in" onClose={close}>
      {open && (
        <>
          <h2 id="log-in">{gateway.value ? text.logInTo(gateway.value) : text.logIn}</h2>
          <LogInForm cancel={close} />
        </>
      )}
    </dialog>
  );
}

function Alone({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card alone" aria-labelledby="alone">
      <h1 id="alone">{title}</h1>
      {children}
    </section>
  );
}

/** Where nothing may be seen without logging in. */
export function Gate() {
  return (
    <Alone title={text.logIn}>
      <p class="meta">{text.gateNote}</p>
      <LogInForm />
    </Alone>
  );
}

/** Where the one-time link leads. */
export function SetUp({ token }: { token: string }) {
  // Kept here alone: what was once in the address would stay in the history.
  const [secret] = useState(token);
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const doing = useDoing();
  useEffect(() => history.replaceState(null, "", "#/setup"), []);
  if (!secret) {
    return (
      <Alone title={text.setPassword}>
        <p>{text.noLink}</p>
        <p>
          <code class="command">tidemill passwd --link</code>
        </p>
      </Alone>
    );
  }
  const short = password.length > 0 && [...password].length < PASSWORD_MIN;
  const differs = again.length > 0 && again !== password;
  const submit = (event: Event) => {
    event.preventDefault();
    doing.run(async () => {
      await setUp(secret, password);
      location.hash = "#/";
    });
  };
  return (
    <Alone title={text.setPassword}>
      <p class="meta">{text.setUpNote}</p>
      <form onSubmit={submit}>
        <AccountName />
        <PasswordField id="password" label={text.newPassword} value={password} change={setPassword} autocomplete="new-password" focus invalid={short} />
        <PasswordField id="again" label={text.repeatPassword} value={again} change={setAgain} autocomplete="new-password" invalid={differs} />
        <p class="meta">{short ? text.tooShort(PASSWORD_MIN) : differs ? text.notTheSame : ""}</p>
        <Trouble doing={doing} />
        <p class="actions">
          <button type="submit" class="main" disabled={doing.busy || doing.wait > 0 || !password || short || again !== password}>
            {doing.busy ? text.saving : text.setPassword}
          </button>
        </p>
      </form>
    </Alone>
  );
}
