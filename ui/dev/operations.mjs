/** Notifiers with their messages, and the versions of the configuration, of the farm in memory. */

const now = () => Math.floor(Date.now() / 1000);
const KEPT = 50;

const NOTIFIERS = [
  { name: 'team', kind: 'irc', target: '#builds' },
  { name: 'post', kind: 'mail', target: 'team@example.org, 2 more' },
  { name: 'dashboard', kind: 'webhook', target: 'https://hooks.example.org' },
  { name: 'commit-status-of-the-old-forge', kind: 'gitea-status', target: '', gone: true },
];
const REFUSED = 'connection to 192.0.2.7:25 refused';
const FAULTS = `error[unknown-key]: unknown key \`stepz\` in \`builders.fuzz\`
  --> /etc/greenroom/greenroom.d/20-nightly.toml:14:1
   |
14 | [[builders.fuzz.stepz]]
   |                 ^^^^^ did you mean \`steps\`?
   |
   = help: there are: workers, tags, description, steps, recipe, parameters, locks, priority, properties, collapse, next-build

error[unknown-worker]: there is no worker \`linux-amd64-02\`
  --> /etc/greenroom/greenroom.d/20-nightly.toml:9:12
   |
 9 | workers = ["linux-amd64-02"]
   |            ^^^^^^^^^^^^^^^^
   |

2 errors`;

const changed = (section, name, keys) => ({ section, name, change: 'changed', keys });
const DIFFERENCES = [
  null,
  { components: [{ section: 'workers', name: 'linux-arm64-01', change: 'added' }, changed('www', undefined, [{ key: 'url', change: 'added', to: '"https://ci.example.org/"' }])] },
  { components: [changed('builders', 'linux-amd64', [
    { key: 'steps[2].run', change: 'changed', from: '"cargo test"', to: '"cargo test --workspace --all-targets --locked -- --test-threads 4 --nocapture"' },
    { key: 'steps[2].timeout', change: 'added', to: '"20m"' },
    { key: 'tags', change: 'changed', from: '["linux"]', to: '["linux","fast"]' },
  ]), changed('notifiers', 'post', [{ key: 'password', change: 'changed', secret: true }, { key: 'to', change: 'changed', from: '["ops@example.org"]', to: '["team@example.org"]' }])] },
  { components: [{ section: 'builders', name: 'nightly of a name with blanks', change: 'removed' }, changed('www', undefined, [{ key: 'listen', change: 'changed', from: '"127.0.0.1:8010"', to: '"0.0.0.0:8010"' }])] },
];
/** What the files say beside what is in force. */
const NEXT = { components: [
  changed('builders', 'fuzz', [{ key: 'steps[0].run', change: 'changed', from: '"cargo fuzz run parser"', to: '"cargo fuzz run parser -- -max_total_time=600"' }]),
  { section: 'workers', name: 'macos-m2-02', change: 'added' },
  changed('workers', 'macos-m2-01', [{ key: 'password', change: 'changed', secret: true }]),
] };

export class Operations {
  tables = { notifiers: [], deliveries: [], configurations: [] };
  #publish;
  #next = 1;
  #refused = { at: now() - 420, text: FAULTS };
  #speed;

  /** @param publish takes the routing keys of an event and its entity */
  constructor({ publish, speed }) {
    this.#publish = publish;
    this.#speed = speed;
    NOTIFIERS.forEach(({ name, kind, gone }, index) => this.tables.notifiers.push({ notifierid: index + 1, name, kind, masterid: gone ? null : 1 }));
    const causes = ['start', 'start', 'reload', 'reload'];
    DIFFERENCES.forEach((difference, index) => this.#version(causes[index], index < 2 ? 'master' : 'ada', difference, null, now() - (4 - index) * 90_000));
  }

  get number() {
    return this.tables.configurations.at(-1).number;
  }

  reload() {
    return { masterid: 1, number: this.number, refused_at: this.#refused?.at ?? null, refusal: this.#refused?.text ?? null, next_start: ['www.listen'] };
  }

  actors() {
    const waiting = (name) => this.tables.deliveries.filter((one) => one.notifier === name && one.state === 'waiting').length;
    const notifiers = NOTIFIERS.filter((one) => !one.gone).map(({ name, kind }) => ({
      name: `notifier/${name}`, kind: 'notifier', observed: { claimed: true, kind, waiting: waiting(name), sent: 12, failed: 0 },
    }));
    return [...notifiers, {
      name: 'irc/team', kind: 'irc-connection',
      observed: { state: 'ready', nick: 'greenroom', channels: { '#builds': 'joined', '#release': 'joined' }, connected: 2, last_error: 'ping timeout', lines_sent: 240, lines_received: 913, lines_queued: 0, answers_dropped: 0 },
    }];
  }

  /** A build that ended is told, or silenced, or waits for a relay that is away. */
  told(build, builder, result, at = now()) {
    if (result === 'success' || result === 'running') return;
    const subject = `${builder.name} #${build.number}: ${result}`;
    for (const { name, target, gone } of NOTIFIERS) {
      if (gone || (name !== 'dashboard' && result === 'cancelled')) continue;
      const again = name !== 'dashboard' && build.number % 4 !== 1;
      const delivery = this.#delivery(name, subject, build.buildid, at);
      if (again) this.#settle(delivery, 'silenced', null, `like the failure before it: ${builder.name}, main, step test`, at);
      else if (name === 'post' && now() - at < 900) this.#wait(delivery, at);
      else if (name === 'dashboard' && build.number % 9 === 0) this.#settle(delivery, 'failed', null, 'the server answered 410 Gone', at, 1);
      else this.#settle(delivery, 'sent', target, null, at, 1);
    }
  }

  control(kind, item, method, params) {
    if (kind === 'notifiers' && method === 'test') return { result: { deliveryid: this.#test(item) } };
    if (method === 'reload' && this.#refused !== null && !params['dry-run'] && params.force === undefined) this.#refused = null;
    const dry = params['dry-run'] === true;
    const back = method === 'rollback' ? (params.number ?? this.number - 1) : null;
    const difference = back === null ? (this.#last?.who === 'Ada Byron' ? { components: [] } : NEXT) : { components: DIFFERENCES[3].components };
    const before = this.number;
    if (!dry && difference.components.length > 0) this.#announce(back === null ? 'reload' : 'rollback', difference, back);
    const notes = back === null ? [] : ['the files on disk are not changed: a reload or a restart loads what they say'];
    return { result: { number: this.number, previous: before, dry_run: dry, changed: difference.components.length > 0, difference, text: '', next_start: ['www.listen'], notes, warnings: '' } };
  }

  get #last() {
    return this.tables.configurations.at(-1);
  }

  #announce(cause, difference, restores) {
    const version = this.#version(cause, 'Ada Byron', difference, restores, now());
    this.#publish([`configurations/${version.configurationid}/new`, `masters/1/configurations/${version.number}/new`], version);
  }

  #version(cause, who, difference, restores, at) {
    const number = this.tables.configurations.length + 1;
    const version = { configurationid: number, masterid: 1, number, cause, restores, who, created_at: at, difference, digest: String(number).repeat(64).slice(0, 64) };
    this.tables.configurations.push(version);
    return version;
  }

  #test(notifier) {
    const delivery = this.#delivery(notifier.name, 'test message asked for by Ada Byron', null, now());
    const { target } = NOTIFIERS.find((one) => one.name === notifier.name);
    setTimeout(() => {
      if (notifier.name === 'post') this.#wait(delivery, now());
      else this.#settle(delivery, 'sent', target, null, now(), 1);
    }, 600 / this.#speed);
    return delivery.deliveryid;
  }

  #delivery(notifier, subject, buildid, at) {
    const id = this.#next++;
    const delivery = { deliveryid: id, notifier, subject, buildid, created_at: at, due_at: at, dedup_key: `d-${id}`, state: 'waiting', attempts: 0, target: null, reason: null, settled_at: null };
    this.tables.deliveries.push(delivery);
    this.#tell(delivery, 'new');
    return delivery;
  }

  #wait(delivery, at) {
    Object.assign(delivery, { attempts: 3, reason: REFUSED, due_at: Math.max(at, now()) + 45 });
    this.#tell(delivery, 'updated');
  }

  #settle(delivery, state, target, reason, at, attempts = 0) {
    Object.assign(delivery, { state, target, reason, settled_at: at, attempts });
    this.#tell(delivery, 'settled');
    const mine = this.tables.deliveries.filter((one) => one.notifier === delivery.notifier && (one.state === 'silenced') === (state === 'silenced') && one.state !== 'waiting');
    for (const old of mine.slice(0, -KEPT)) this.tables.deliveries.splice(this.tables.deliveries.indexOf(old), 1);
  }

  #tell(delivery, event) {
    const { notifier, deliveryid: id } = delivery;
    this.#publish([`notifiers/${notifier}/deliveries/${id}/${event}`, `deliveries/${id}/${event}`], delivery);
  }
}
