// In the system view: the own password, and tokens for scripts.

import { useEffect, useState } from "preact/hooks";
import { words } from "../api";
import { asking, changePassword, createToken, listTokens, logOut, privileged, revokeToken, session, type Scope, type Token } from "../session";
import { text } from "../text";
import { AccountName, PasswordField, Trouble, useDoing } from "./forms";
import { Card } from "./card";
import { at } from "./words";

export function Account() {
  const known = session.value;
  if (!known) return null;
  if (!known.loggedIn) {
    return (
      <Card id="account" title={text.access} wide>
        <p class="meta">{known.write ? text.trusted : text.onlyLooking}</p>
        <p class="actions left">
          <button type="button" onClick={() => (asking.value = true)}>
            {text.logIn}
          </button>
        </p>
      </Card>
    );
  }
  return (
    <Card id="account" title={text.access} wide>
      <Tokens />
      <Password />
      <p class="actions left">
        <button type="button" onClick={() => void logOut()}>
          {text.logOut}
        </button>
      </p>
    </Card>
  );
}

function Tokens() {
  const [tokens, setTokens] = useState<Token[] | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const [name, setName] = useState("");
  const [scope, setScope] = useState<Scope>("read");
  const [made, setMade] = useState<{ name: string; token: string } | null>(null);
  /** The token that a second press will revoke. */
  const [sure, setSure] = useState<string | null>(null);
  const doing = useDoing();
  const read = () =>
    privileged(listTokens()).then(
      (list) => {
        setTokens(list);
        setFailed(null);
      },
      (failure: unknown) => setFailed(words(failure)),
    );
  useEffect(() => void read(), []);
  const create = (event: Event) => {
    event.preventDefault();
    doing.run(async () => {
      const token = await privileged(createToken(name.trim(), scope));
      setMade({ name: name.trim(), token });
      setName("");
      await read();
    });
  };
  const revoke = (token: string) => {
    if (sure !== token) return setSure(token);
    setSure(null);
    doing.run(async () => {
      await privileged(revokeToken(token));
      if (made?.name === token) setMade(null);
      await read();
    });
  };
  return (
    <div class="part">
      <h3>{text.tokens}</h3>
      <p class="meta">{text.tokensNote}</p>
      {failed && <p class="note bad">{failed}</p>}
      <ul class="rows tokens">
        {tokens?.map((token) => (
          <li key={token.name}>
            <strong>{token.name}</strong>
            <span class="meta">
              {token.scope === "write" ? text.scopeWrite : text.scopeRead}, {text.made(at(token.created))}
            </span>
            <button type="button" class={sure === token.name ? "danger" : ""} onClick={() => revoke(token.name)} onBlur={() => setSure(null)}>
              {sure === token.name ? text.reallyRevoke(token.name) : text.revoke}
              {sure !== token.name && <span class="sr"> {token.name}</span>}
            </button>
          </li>
        ))}
        {tokens?.length === 0 && <li class="meta">{text.noTokens}</li>}
      </ul>
      {made && (
        <div class="note" role="status">
          <label for="made">{text.copyNow(made.name)}</label>
          <input id="made" class="secret" type="text" readOnly value={made.token} onFocus={(event) => event.currentTarget.select()} />
        </div>
      )}
      <form class="inline" onSubmit={create}>
        <div class="field">
          <label for="token-name">{text.name}</label>
          <input id="token-name" type="text" required autocomplete="off" autocapitalize="none" value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </div>
        <div class="field">
          <label for="token-scope">{text.scope}</label>
          <select id="token-scope" value={scope} onChange={(event) => setScope(event.currentTarget.value as Scope)}>
            <option value="read">{text.scopeRead}</option>
            <option value="write">{text.scopeWrite}</option>
          </select>
        </div>
        <button type="submit" disabled={doing.busy || !name.trim()}>
          {text.createToken}
        </button>
      </form>
      <Trouble doing={doing} />
    </div>
  );
}

function Password() {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [done, setDone] = useState(false);
  const doing = useDoing();
  const submit = (event: Event) => {
    event.preventDefault();
    setDone(false);
    doing.run(async () => {
      await changePassword(current, next);
      setCurrent("");
      setNext("");
      setDone(true);
    });
  };
  return (
    <details class="part">
      <summary>{text.changePassword}</summary>
      <form class="inline" onSubmit={submit}>
        <AccountName />
        <PasswordField id="current" label={text.currentPassword} value={current} change={setCurrent} autocomplete="current-password" />
        <PasswordField id="next" label={text.newPassword} value={next} change={setNext} autocomplete="new-password" />
        <button type="submit" disabled={doing.busy || doing.wait > 0 || !current || !next}>
          {doing.busy ? text.saving : text.changePassword}
        </button>
      </form>
      {done && <p role="status">{text.passwordChanged}</p>}
      <Trouble doing={doing} />
    </details>
  );
}
