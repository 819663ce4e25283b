// In libserver-context, in place of upstream's server-queue.cpp, which it includes unchanged: clients that have gone
// away are noticed.
//
// A request that waits for its result looks after its client when nothing has come for a second. But every result of
// every request starts that second anew, so while another answer streams nobody looks, and the engine goes on for
// whoever left. Here each waiting thread looks by its own clock.
#include "server-queue.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace {

constexpr auto LOOK_EVERY = std::chrono::milliseconds(250);

class watchful {
public:
    explicit watchful(std::condition_variable & inner) : inner(inner) {}

    template <typename... Arguments> void wait(Arguments &&... arguments) {
        inner.wait(std::forward<Arguments>(arguments)...);
    }

    void notify_all() { inner.notify_all(); }

    // Says "timeout" when it is time to look, however long the caller would wait; he looks and comes back.
    std::cv_status wait_for(std::unique_lock<std::mutex> & lock, std::chrono::seconds) {
        static thread_local std::chrono::steady_clock::time_point looked;
        const auto due = looked + LOOK_EVERY;
        if (std::chrono::steady_clock::now() < due && inner.wait_until(lock, due) == std::cv_status::no_timeout) {
            return std::cv_status::no_timeout;
        }
        looked = std::chrono::steady_clock::now();
        return std::cv_status::timeout;
    }

private:
    std::condition_variable & inner;
};

} // namespace

#define condition_results watchful(condition_results)
#include "server-queue.cpp"
