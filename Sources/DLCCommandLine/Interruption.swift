import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Ctrl-C and SIGTERM, for commands that have something to finish: the first one is noted, and whoever
/// asks ends in good order; the second one ends the process at once.
enum Interruption {
  private static let received = Atomic<Int32>(0)

  /// Notes the signals from now on. One that was ignored before (under `nohup`) stays so; one that was
  /// blocked is not, because threads of pools, which block all signals, hand that on to what they start.
  static func install() {
    // The handler must find it initialised.
    _ = received.load(ordering: .relaxed)
    for signal in [SIGINT, SIGTERM] {
      var old = sigaction()
      guard sigaction(signal, nil, &old) == 0, !isIgnored(old) else { continue }
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { number in
        if Interruption.received.exchange(number, ordering: .relaxed) != 0 { _exit(128 + number) }
      }
      action.sa_flags = SA_RESTART
      sigaction(signal, &action, nil)
      var set = sigset_t()
      sigemptyset(&set)
      sigaddset(&set, signal)
      pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }
  }

  private static func isIgnored(_ action: sigaction) -> Bool {
    unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }

  static var isRequested: Bool { received.load(ordering: .relaxed) != 0 }

  typealias Stop = (name: String, status: Int32)

  /// The signal, by its name, and the exit status that stands for it.
  static var signal: Stop? {
    let number = received.load(ordering: .relaxed)
    return number == 0 ? nil : (number == SIGINT ? "SIGINT" : "SIGTERM", 128 + number)
  }
}
