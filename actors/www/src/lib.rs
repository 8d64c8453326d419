//! REST, WebSocket, hooks and the embedded page.
